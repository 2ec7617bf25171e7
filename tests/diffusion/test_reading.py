"""Whether a misread network is told from a well read one."""

import copy
import json
import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from helpers import F64, gaussian
from posteria.core.errors import ReadingWarning
from posteria.diffusion import Parametrisation, Units, misfits
from posteria.diffusion.betas import ScaledLinearBetas
from posteria.diffusion.reading import LEFT, noise_left, parametrisation_of
from posteria.modalities import MODALITIES
from posteria.priors import SHIPPED
from posteria.testing import check_prior


def pictures(name: str) -> Tensor:
    """The held-out pictures of a shipped prior."""
    card = SHIPPED[name]
    read = MODALITIES["image"].read
    return torch.stack([read(p, card.shape, taker=name, fit=False).x for p in card.examples])


WRONG: list[Parametrisation] = [
    po.diffusion.Epsilon(),
    po.diffusion.Velocity(),
    po.diffusion.X0(),
    po.diffusion.FlowMatching(),
    po.diffusion.EDM(sign=-1),
    po.diffusion.Denoised(),
    po.diffusion.Score(),
    po.diffusion.Angle(),
]


def misread(prior: Any, reading: Parametrisation) -> po.Network:
    other = copy.copy(prior)
    other.parametrisation = reading
    return other


@pytest.mark.parametrize("name", ["digits", "satellite"])
def test_trained_priors_are_told_from_misread_ones(name: str) -> None:
    # Catches: a check that lets a wrong reading pass, or that refuses a right one.
    prior, x = po.load_prior(name), pictures(name)[:2]
    assert max(check_prior(prior, x).values()) < 0.9
    for wrong in WRONG[:: 1 if name == "digits" else 3]:
        assert max(misfits(misread(prior, wrong), x).values()) > 2.3, wrong
    with pytest.raises(AssertionError, match="does not denoise its examples"):
        check_prior(misread(prior, WRONG[0]), x)
    with pytest.raises(po.ShapeError):
        check_prior(prior, x[..., 1:])
    with pytest.raises(po.InputError, match="Examples vary"):
        check_prior(prior, torch.zeros_like(x))


def test_data_of_another_range() -> None:
    # Catches: a prior of [0, 1] that is used in [-1, 1], or the reverse. Pictures of white grounds cannot tell.
    assert (
        max(misfits(Units(po.load_prior("digits"), 0.0, 1.0), pictures("digits")[:2]).values())
        > 2.3
    )


def test_the_misfit_of_a_gaussian_is_known() -> None:
    # Of N(0, v I) a denoiser leaves v s^2 / (v + s^2) a number, and so the root of that over the lesser of both.
    prior = po.Gaussian(torch.zeros(1, dtype=F64), torch.tensor([[0.25]], dtype=F64))
    x = 0.5 * torch.randn(200000, 1, dtype=F64, generator=torch.Generator().manual_seed(3))
    for sigma, found in misfits(prior, x).items():
        want = math.sqrt(0.25 * sigma**2 / (0.25 + sigma**2)) / min(0.5, sigma)
        assert found == pytest.approx(want, rel=1e-2)


def test_noise_that_is_left_in_noise() -> None:
    prior = po.load_prior("satellite")
    small = noise_left(prior)
    assert small is not None
    assert 0 < small < 0.02
    misreads = misread(prior, po.diffusion.Epsilon())
    left = noise_left(misreads)
    assert left is not None
    assert left > 1 > LEFT
    # Nearly the same as at the size of the pictures.
    misreads.multiple = 0
    assert noise_left(misreads) == pytest.approx(left, rel=0.2)
    # Those that it cannot know of: no network, and no level far above the data.
    assert noise_left(gaussian()) is None
    low = po.diffusion.Epsilon(po.schedules.LinearBetas(end=1e-3))
    assert noise_left(misread(prior, low)) is None


def test_levels_that_a_network_does_not_know_are_warned_of() -> None:
    # Catches: a run that starts far above the noise of a network's training without a word, also behind other priors.
    network = misread(po.load_prior("digits"), po.diffusion.Epsilon(ScaledLinearBetas()))
    sampler = po.Unconditional(schedule=po.Karras(steps=2))
    for prior in (network, po.Tilted(network, po.Label(1), 2.0), po.diffusion.Counted(network)):
        with pytest.warns(
            RuntimeWarning, match=r"knows noise up to 14\.61, and the schedule starts"
        ):
            next(sampler.iterate(prior, seeds=1))
    assert parametrisation_of(gaussian()) is None
    next(po.Unconditional(schedule=po.Karras(steps=2, sigma_max=14.6)).iterate(network, 1))


def test_a_prior_that_leaves_noise_is_doubted(tmp_path: Any) -> None:
    # Catches: a network of another scheduler, or without its weights, that is used without a word.
    shipped = SHIPPED["digits"].folder
    for part in ("unet", "scheduler"):
        (tmp_path / part).mkdir()
        for path in (shipped / part).iterdir():
            (tmp_path / part / path.name).write_bytes(path.read_bytes())
    (tmp_path / "posteria.json").write_bytes((shipped / "posteria.json").read_bytes())
    x = torch.zeros(1, 1, 28, 28)
    po.load_prior(str(tmp_path))(x, 1.0)
    table = {"_class_name": "DDPMScheduler", "beta_schedule": "linear", "beta_start": 1e-4}
    table |= {"beta_end": 0.02, "num_train_timesteps": 1000}
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(table))
    prior = po.load_prior(str(tmp_path))
    with pytest.warns(ReadingWarning, match=r"leaves 1\.\d+ of pure noise"):
        prior.given(po.Label(1)).vjp(x, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prior(x, 1.0)
