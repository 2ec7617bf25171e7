"""Rescale."""

import math

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.linear import (
    LABEL,
    MIXTURES,
    iso,
    pair,
)
from helpers import mixture
from posteria.guidance.tilted.rescale import Rescale

# Rescale.


@pytest.mark.parametrize("sigma", [0.05, 0.8, 30.0])
@pytest.mark.parametrize(("weight", "phi"), [(3.0, 1.0), (7.5, 0.7), (4.0, 0.0), (1.0, 0.4)])
def test_rescale_of_a_unit_gaussian_is_cfg_of_a_smaller_weight(
    sigma: float, weight: float, phi: float
) -> None:
    # The velocity of N(0, I) is 0, so that the guided one is `weight` times the conditional one.
    # Catches: rescaling in another space, a mixture with phi the wrong way round.
    target = po.Tilted(pair(iso(1.0, d=4), mixture()), LABEL, 1.0)
    x = math.hypot(1, sigma) * po.Rng(range(5)).normal(target.space)
    rescaled = Rescale(weight, phi=phi).at(target, x, sigma)
    expected = po.CFG(phi + (1 - phi) * weight).at(target, x, sigma)
    torch.testing.assert_close(rescaled, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "output",
    [
        po.diffusion.Velocity(),
        po.diffusion.Epsilon(),
        po.diffusion.X0(),
        po.diffusion.FlowMatching(),
    ],
)
def test_rescale_gives_the_output_the_spread_of_the_conditional_one(
    output: po.diffusion.Velocity
    | po.diffusion.Epsilon
    | po.diffusion.X0
    | po.diffusion.FlowMatching,
) -> None:
    # Catches: one spread for the whole batch, a norm in place of a standard deviation, a conversion
    # to the output and back that does not fit.
    target, sigma = po.Tilted(MIXTURES, LABEL, 5.0), 0.7
    x = 2 * po.Rng(range(6)).normal(target.space)
    _, skip, out = output.coefficients(sigma)

    def network(x0: Tensor) -> Tensor:
        return (x0 - skip * x) / out

    given, guided = network(target.conditional(x, sigma)), network(target(x, sigma))
    full = network(Rescale(phi=1.0, output=output).at(target, x, sigma))
    torch.testing.assert_close(full.std(-1), given.std(-1), rtol=1e-10, atol=0)
    part = network(Rescale(phi=0.3, output=output).at(target, x, sigma))
    factor = (given.std(-1) / guided.std(-1))[:, None]
    torch.testing.assert_close(part, 0.3 * factor * guided + 0.7 * guided, rtol=1e-9, atol=1e-11)
    assert (factor - 1).abs().min() > 0.01


def test_rescale_leaves_a_single_entry_alone() -> None:
    # Catches: 0 / 0 where a sample has no spread, in the value or in the derivative.
    target = po.Tilted(pair(iso(4.0), iso(1.0, 1.5)), LABEL, 3.0)
    x = po.Rng(range(3)).normal(target.space)
    rescaled, pullback = Rescale(phi=1.0).denoiser(target).vjp(x, 0.5)
    expected, reference = target.vjp(x, 0.5)
    torch.testing.assert_close(rescaled, expected)
    torch.testing.assert_close(pullback(torch.ones_like(x)), reference(torch.ones_like(x)))
