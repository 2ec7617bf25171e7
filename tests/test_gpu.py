"""The same on a CUDA device; left out unless asked for with `-m gpu`."""

from pathlib import Path

import pytest
import torch

import posteria as po
from common.guidance.battery import SAMPLERS
from common.sampler import SMALL, TARGETS, takes
from posteria.analytic import PPCAMixture
from posteria.core.rng import Philox
from posteria.metrics import AgainstExact
from posteria.priors import faster
from posteria.problems.pictures import pictures_exact
from posteria.runs.engine import Method, draw
from posteria.runs.store import Store
from posteria.testing import (
    check_denoiser,
    check_guidance,
    check_sampler,
    example_posterior,
    example_tilted,
)

pytestmark = pytest.mark.gpu


def moved(prior: po.Denoiser) -> po.GaussianMixture:
    assert isinstance(prior, po.GaussianMixture)
    return po.GaussianMixture(prior.weights.cuda(), prior.means.cuda(), prior.covariances.cuda())


def on_gpu() -> po.Posterior:
    target = example_posterior()
    return po.Posterior(moved(target.prior), target.likelihood, target.y)


def tilted_on_gpu() -> po.Tilted:
    target = example_tilted()
    members = {k: moved(target.prior.given(po.Label(k))) for k in range(3)}
    return po.Tilted(po.Family(moved(target.unconditional), members), po.Label(0), 2.0)


@pytest.mark.parametrize("name", [name for name in SMALL if takes(name, TARGETS["linear"])])
def test_samplers(name: str) -> None:
    check_sampler(SMALL[name], on_gpu(), batches=(1, 16))


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_of_tilted_laws(name: str) -> None:
    check_sampler(SAMPLERS[name], tilted_on_gpu(), batches=(1, 16))


@pytest.mark.parametrize(
    "rule", [po.CFG(), po.APG(3.0, beta=-0.5), po.guidance.AdaptiveGuidance(threshold=0.99)]
)
def test_rules(rule: po.guidance.TiltedRule) -> None:
    check_guidance(rule, tilted_on_gpu())


def test_network() -> None:
    prior = po.load_prior("digits", device="cuda")
    check_denoiser(prior, sigmas=(0.5,))
    cpu = po.load_prior("digits")
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(prior(x.cuda(), 0.5).cpu(), cpu(x, 0.5), atol=1e-3)


def test_a_network_as_graphs_in_half_precision() -> None:
    # Catches: a derivative of memory that another evaluation has overwritten, and inputs of the first call used again.
    prior = po.load_prior("digits", device="cuda")
    x, v = torch.randn(
        2, 3, 1, 28, 28, generator=torch.Generator("cuda").manual_seed(0), device="cuda"
    )
    for quick, within in (
        (faster(prior, graphs=True), 1e-4),
        (faster(prior, autocast=True, channels_last=True, compile=True, graphs=True), 0.03),
    ):
        for scale in (1.0, 2.0):
            (x0, pull), (y0, back) = quick.vjp(scale * x, 0.5), prior.vjp(scale * x, 0.5)
            quick.vjp(3 * x, 0.3)[1](v)
            for _ in range(2):
                assert (pull(v) - back(v)).norm() < within * back(v).norm()
            assert (x0 - y0).norm() < within * y0.norm()
            with torch.inference_mode():
                assert (quick(scale * x, 0.5) - y0).norm() < within * y0.norm()


def test_the_mixture_of_digits_and_its_posterior() -> None:
    ours, cpu = (po.load_prior("digits-mixture", device=device) for device in ("cuda", "cpu"))
    assert isinstance(ours, PPCAMixture) and isinstance(cpu, PPCAMixture)
    check_denoiser(ours, sigmas=(0.5,))
    problem = pictures_exact("box", seed=0)
    target = problem.target
    posterior, exact = (
        law.posterior(target.likelihood, target.y.to(law.space.device)) for law in (ours, cpu)
    )
    assert torch.allclose(posterior.mean.cpu(), exact.mean, atol=1e-4)
    assert torch.allclose(posterior.log_evidence.cpu(), exact.log_evidence, atol=1e-2)
    against = AgainstExact(posterior, 64)
    found = against.evaluate(posterior.sample(64, torch.Generator("cuda").manual_seed(1)))
    assert 0.7 < found["ratio"] < 1.4


def test_noise_is_of_one_counter_for_all_samples() -> None:
    # Catches: other words than on a CPU, where the published vectors are tested, and a row that depends on the batch.
    space = po.Space((3, 64, 64), device="cuda")
    rng, cpu = po.Rng(range(64), "cuda"), Philox(range(64), 0, torch.device("cpu"))
    drawn = rng.normal(space)
    assert torch.allclose(drawn.cpu(), cpu.normal_(torch.empty(drawn.shape)), atol=1e-5)
    assert torch.equal(po.Rng([7], "cuda").normal(space)[0], drawn[7])
    assert torch.equal(rng.uniform().cpu(), cpu.uniform())
    assert abs(float(drawn.mean())) < 0.01 and abs(float(drawn.std()) - 1) < 0.01


def test_a_run_resumes(tmp_path: Path) -> None:

    target, sampler = on_gpu(), po.MGDM(schedule=po.schedules.Table(steps=8))
    methods = {"samples": Method(sampler, target, range(5))}
    whole = draw(methods, 2, Store(tmp_path), lambda *_: None)["samples"].x
    parts = [sampler.sample(target, seeds) for seeds in ([0, 1], [2, 3], [4])]
    assert torch.equal(whole, torch.cat(parts).cpu())
