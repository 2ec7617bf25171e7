"""MCGDiff."""

import pytest
import torch

from common.particles import LEVELS, population_error
from helpers import F64
from posteria import operators
from posteria.samplers.particles.filtering import Coordinates
from posteria.samplers.particles.mcgdiff import MCGDiff


def test_kappa_is_a_variance_of_the_variance_preserving_process() -> None:
    # Catches: kappa in data units, of another power of the level, or added where the noise above the anchor exceeds it.
    # 1 + sigma^2 is what a variance of the paper's process is multiplied by.
    noise, anchor = torch.tensor([2.0, 2.5], dtype=F64), torch.tensor([2.0, 2.0], dtype=F64)
    seen = Coordinates(operators.Identity((2,)), anchor, noise, anchor, anchor.sum())
    variance = MCGDiff(schedule=LEVELS, kappa=0.1)._variance(seen, 3.0)
    assert variance.tolist() == pytest.approx([9 - 4 + 0.1 * (1 + 4), 9 - 4 + 2.25])


def test_terminal_weights_do_not_converge() -> None:
    # The official weights at the end divide by a potential that is nearly a point.
    settings = MCGDiff(schedule=LEVELS, particles=512, kappa=1e-4)
    plain, _ = population_error(settings, 12)
    terminal, _ = population_error(
        MCGDiff(schedule=LEVELS, particles=512, kappa=1e-4, as_published=("terminal",)), 12
    )
    assert terminal > 1.5 * plain
