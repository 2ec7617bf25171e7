"""FPS."""

from common.particles import LEVELS, population_error
from posteria.samplers.particles.fps import FPS


def test_a_path_of_fps_is_forgotten_as_the_steps_get_finer() -> None:
    # Populations differ by their paths, which the posterior does not depend on but for the length
    # of the steps: 0.17, 0.12 and 0.05 at 50, 100 and 400 steps.
    fine, _ = population_error(FPS(particles=512), 10)
    coarse, bias = population_error(FPS(schedule=LEVELS, particles=512), 10)
    assert fine < 0.1 and fine < coarse < 0.2
    assert bias < 0.15
