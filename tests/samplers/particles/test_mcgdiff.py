"""MCGDiff."""

from common.particles import LEVELS, population_error
from posteria.samplers.particles.mcgdiff import MCGDiff


def test_terminal_weights_do_not_converge() -> None:
    # The official weights at the end divide by a potential that is nearly a point.
    settings = MCGDiff(schedule=LEVELS, particles=512, kappa=1e-4)
    plain, _ = population_error(settings, 12)
    terminal, _ = population_error(
        MCGDiff(schedule=LEVELS, particles=512, kappa=1e-4, as_published=("terminal",)), 12
    )
    assert terminal > 1.5 * plain
