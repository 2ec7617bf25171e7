"""Every registered sampler and rule in float32 and float64, on priors of one's own and on networks in bfloat16."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import posteria as po
from common.guidance.battery import LEVELS, RULES, SAMPLERS as TILTED, rules
from common.sampler import SMALL, TARGETS, takes
from helpers import F64
from posteria.core.rng import Generators
from posteria.diffusion import EDM, Network
from posteria.samplers import MGDM
from posteria.testing import example_posterior, example_tilted

F32 = torch.float32
SEEDS = range(12)


@pytest.fixture(autouse=True)
def _same_noise(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same noise in each dtype; PyTorch draws others in float32 than in float64."""
    fill = Generators.normal_
    monkeypatch.setattr(Generators, "normal_", lambda self, out: fill(self, out.double()).to(out))
    yield


def same_law(single: Tensor, double: Tensor, tolerance: float = 1e-2, share: float = 0.75) -> None:
    """Equal up to `tolerance` in a `share` of the entries; others have passed a choice that hangs on a rounding."""
    assert (single.dtype, double.dtype) == (F32, F64)
    error = (single.double() - double).abs() / (1 + double.abs())
    assert float(error.flatten().quantile(share)) < tolerance


def same_moments(single: Tensor, double: Tensor) -> None:
    """Mean and standard deviation of each entry, within 5 standard errors and a fifth."""
    assert (single.dtype, double.dtype) == (F32, F64)
    error = (single.double().mean(0) - double.mean(0)).abs() / double.std(0)
    ratio = single.double().std(0) / double.std(0)
    assert float(error.max()) < 5 * (2 / len(double)) ** 0.5
    assert float(ratio.min()) > 0.8 and float(ratio.max()) < 1.25


def exact(kind: str, dtype: torch.dtype) -> po.Denoiser:
    law = example_posterior().prior
    assert isinstance(law, po.GaussianMixture)
    weights, means, covariances = law.weights, law.means.to(dtype), law.covariances.to(dtype)
    if kind == "gaussian":
        return po.Gaussian(means[0], covariances[0])
    tied = covariances[:1].expand(3, -1, -1)
    return po.GaussianMixture(weights.to(dtype), means, tied if kind == "tied" else covariances)


# Which particle, or which draw, counts depends on the last bit of a weight.
BY_WEIGHTS = {"exact", "tds", "fps", "tfg", "tempered"}


class White(po.Denoiser):
    """N(0, 1), as one would write it: with levels of the dtype of `x`, and no derivative of one's own."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.space = po.Space((2, 3), dtype)

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = sigma[..., None, None] if isinstance(sigma, Tensor) else sigma
        x0 = x / (1 + level**2)
        assert x0.dtype == x.dtype == self.space.dtype
        return x0


class Half(nn.Module):
    """The network of N(0, 1) under `EDM()`, in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones((), dtype=torch.bfloat16))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        square = (8 * time).exp()
        out = 0.5 * (square / (square + 0.25)).sqrt()
        gain = (1 / (1 + square) - 0.25 / (0.25 + square)) * (square + 0.25).sqrt() / out
        return self.one * gain.to(x.dtype)[:, None, None] * x


def posteriors(name: str) -> list[po.Posterior]:
    return [target for target in TARGETS.values() if takes(name, target)]


def swapped(target: po.Posterior, prior: po.Denoiser) -> po.Posterior:
    return po.Posterior(prior, target.likelihood, target.y)


@pytest.mark.parametrize("prior", ["gaussian", "tied", "separate"])
@pytest.mark.parametrize("name", SMALL)
def test_samplers_draw_the_same_in_float32(name: str, prior: str) -> None:
    # Catches: a level, a weight or a variance in another dtype than x, and a small difference of large
    # numbers that float32 does not see.
    # One of each of 16 populations: what a rounding chooses in one moves all of its particles.
    size = getattr(SMALL[name], "particles", 0)
    seeds = range(0, 16 * size, size) if size else SEEDS
    for target in posteriors(name):
        single, double = (
            SMALL[name].sample(swapped(target, exact(prior, dtype)), seeds) for dtype in (F32, F64)
        )
        same_law(single, double)


@pytest.mark.parametrize("name", [*SMALL, "mgdm gmm"])
def test_samplers_take_a_float32_prior_of_one_s_own(name: str) -> None:
    # Catches: levels in float64, which make float64 of a float32 denoiser.
    sampler = SMALL[name] if name in SMALL else MGDM.published("gmm")
    target = posteriors(name if name in SMALL else "mgdm")[0]
    single, double = (sampler.sample(swapped(target, White(dtype)), SEEDS) for dtype in (F32, F64))
    same_law(single, double)


@pytest.mark.parametrize("name", SMALL)
def test_samplers_take_a_network_in_bfloat16(name: str) -> None:
    # Catches: levels, times or products that are rounded to the dtype of the weights.
    target, parted = posteriors(name)[0], name in BY_WEIGHTS
    seeds = range(1024) if parted else SEEDS
    network = Network(Half(), po.Space((2, 3), F32), EDM())
    single = SMALL[name].sample(swapped(target, network), seeds)
    double = SMALL[name].sample(swapped(target, White(F64)), seeds)
    if parted:
        same_moments(single, double)
    else:
        same_law(single, double, tolerance=0.1)


def test_models_of_another_dtype_are_refused() -> None:
    # Catches: a traceback from inside PyTorch in the middle of a run.
    target, other = example_tilted(dtype=F32), rules(example_tilted(dtype=F64))
    for name in ("autoguidance", "rlg", "gfcg", "classifier", "elucd"):
        with pytest.raises(po.InputError, match=r"signals of torch.float64; those of the prior"):
            po.Guided(rule=other[name], schedule=LEVELS).sample(target, SEEDS)
    with pytest.raises(
        po.InputError, match=r"member of the family draws signals of torch.float32"
    ):
        po.Family(exact("gaussian", F64), {0: exact("tied", F64), 1: exact("gaussian", F32)})


@pytest.mark.parametrize("name", [*RULES, *TILTED])
def test_rules_and_tilted_samplers_draw_the_same_in_float32(name: str) -> None:
    # Catches: a level, a coefficient or a memory in another dtype than x.
    drawn = []
    for dtype in (F32, F64):
        target = example_tilted(dtype=dtype)
        guided = po.Guided(
            rule=rules(target).get(name, po.CFG()), schedule=LEVELS, solver=po.DDIM()
        )
        sampler: Any = TILTED.get(name, guided)
        drawn.append(sampler.sample(target, range(1024) if name == "tilted alone" else SEEDS))
    # The axes of two covariances, along which it draws, have no sign.
    (same_moments if name == "tilted alone" else same_law)(*drawn)
