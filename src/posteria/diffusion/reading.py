"""Whether a network is read as what it is: what every denoiser does, seen by one to four evaluations."""

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor

from ..core.errors import CapabilityError, require
from .denoiser import Denoiser, Label
from .network import Network
from .parametrisation import Discrete, Parametrisation
from .units import Units

# Levels in units of the spread of the data.
RELATIVE = (0.1, 0.5, 2.0, 10.0)
# A denoiser of data of unit size leaves about 1 / 80 of this level, and a network that is misread all of it.
HIGHEST = 80.0
LEFT = 0.5


@torch.no_grad()
def misfits(prior: Denoiser, examples: Tensor) -> dict[float, float]:
    """By level, the error of a denoiser over what is left by doing nothing, or by knowing the spread alone.

    The root mean square of `D(x + sigma z, sigma) - x` over the lesser of sigma and the standard deviation of
    the examples, at 0.1, 0.5, 2 and 10 of those. A denoiser of such data is below 1 at each of them.

    Args:
        prior: A prior, or a member of a family.
        examples: A few signals of the kind that it draws, `[n, *event]`, that it need not have seen.

    Raises:
        ShapeError: If they have another shape.
        InputError: If they are all one number, or integers, such as the bytes of a picture.
    """
    require(
        examples.is_floating_point(),
        f"Examples are numbers of floating point in the units of the prior; these are of {examples.dtype}.",
    )
    x = prior.space.check(examples, "examples").to(prior.space.device, prior.space.dtype)
    std = float(x.std())
    require(
        std > 0 and math.isfinite(std), "Examples vary, and are finite; these do not or are not."
    )
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    found = {}
    for sigma in (std * relative for relative in RELATIVE):
        error = (prior(x + sigma * noise, sigma) - x).square().mean().sqrt()
        found[sigma] = float(error) / min(sigma, std)
    return found


@torch.no_grad()
def noise_left(prior: Denoiser) -> float | None:
    """The share of pure noise that a denoiser leaves in it at a level far above its data, by one evaluation.

    Near 0 for a denoiser; None if it knows no such level. Where the sides of its signals are free, they
    are as small as they can be. A prior whose members all have a label is evaluated at the first.
    """
    network = prior.prior if isinstance(prior, Units) else prior
    if not isinstance(network, Network):
        return None
    reading, space = network.parametrisation, network.space
    known = min(highest(reading), HIGHEST)
    if known < 10:
        return None
    if network.multiple:
        least = network.multiple * math.ceil(8 / network.multiple)
        small = tuple(min(side, least) for side in space.shape[1:])
        network = copy.copy(network)
        network.space = replace(space, shape=(space.shape[0], *small))
        network._members = {}
    try:
        member = network.unconditional()
    except CapabilityError:
        member = network.given(Label(0))
    noise = torch.randn(1, *network.space.shape, generator=torch.Generator().manual_seed(0))
    noise = noise.to(space.device, space.dtype)
    return float(member(known * noise, known).square().mean().sqrt()) / known


def parametrisation_of(prior: Denoiser) -> Parametrisation | None:
    """How the network of a prior, of a tilted law or of a prior of latents is read; None where there is none."""
    inner = prior.base
    while isinstance(within := getattr(inner, "prior", None), Denoiser):
        inner = within.base
    reading = getattr(inner, "parametrisation", None)
    return reading if isinstance(reading, Parametrisation) else None


def highest(reading: Parametrisation | None) -> float:
    """The highest level that a network was trained at; infinite where its reading does not say."""
    return reading.betas.sigmas[-1] if isinstance(reading, Discrete) else math.inf


def beyond(start: float, prior: Denoiser) -> str:
    """A sentence on a first level above all that a prior's network was trained at; empty where it is within them."""
    known = highest(parametrisation_of(prior))
    if start <= 1.01 * known:
        return ""
    return (
        f"The network knows noise up to {known:.4g}, and the schedule starts at {start:.4g}: take one such as "
        f"Karras(sigma_max={known:.4g})."
    )
