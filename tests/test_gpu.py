"""The same on a CUDA device; left out unless asked for with `-m gpu`."""

from pathlib import Path

import pytest
import torch

import posteria as po
from posteria.runs.engine import chunks, draw
from posteria.runs.store import Store
from posteria.testing import check_denoiser, check_sampler, example_posterior

pytestmark = pytest.mark.gpu


def on_gpu() -> po.Posterior:
    target = example_posterior()
    prior = target.prior
    assert isinstance(prior, po.GaussianMixture)
    moved = po.GaussianMixture(prior.weights.cuda(), prior.means.cuda(), prior.covariances.cuda())
    return po.Posterior(moved, target.likelihood, target.y)


@pytest.mark.parametrize("kind", po.samplers.POSTERIOR_SAMPLERS.values())
def test_samplers(kind: type[po.MGDM]) -> None:
    check_sampler(kind(schedule=po.Table(steps=12)), on_gpu(), batches=(1, 16))


def test_network() -> None:
    prior = po.load_prior("digits", device="cuda")
    check_denoiser(prior, sigmas=(0.5,))
    cpu = po.load_prior("digits")
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(prior(x.cuda(), 0.5).cpu(), cpu(x, 0.5), atol=1e-3)


def test_a_run_resumes(tmp_path: Path) -> None:

    target, sampler = on_gpu(), po.MGDM(schedule=po.Table(steps=8))
    whole, _ = draw(
        sampler, target, chunks(sampler, range(5), 2), Store(tmp_path), lambda *_: None
    )
    parts = [sampler.sample(target, seeds) for seeds in ([0, 1], [2, 3], [4])]
    assert torch.equal(whole, torch.cat(parts).cpu())
