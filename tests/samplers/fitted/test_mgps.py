"""MGPS."""

import pytest

import posteria as po
from affine import mgps
from common.theory import assert_same_law, small_problem


@pytest.mark.usefixtures("one_stream")
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_mgps_has_the_law_that_its_formulas_imply(alpha: float) -> None:
    # Catches: any slip in the sampler itself; the fit is run to convergence, so that its optimum
    # is known.
    problem, schedule = small_problem(), po.Karras(steps=8, sigma_min=0.05, sigma_max=20.0)
    sampler = po.MGPS(
        schedule=schedule, alpha=alpha, inner=po.samplers.InnerSteps(100), lr=0.03, carry=False
    )
    x = sampler.sample(problem.target(), seeds=range(1500))
    assert_same_law(x, mgps(problem, schedule, alpha), slack=0.04)
