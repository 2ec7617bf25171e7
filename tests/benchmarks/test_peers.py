"""Other libraries' samplers in the benchmark; needs these libraries, see docs/benchmark.md."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.measure import seeds_of
from posteria.metrics.distribution import mean_error, moments, variance_ratio
from posteria.problems.toy import PROBLEMS

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
pytestmark = pytest.mark.filterwarnings("ignore")


def solver_of(library: str, method: str) -> Any:
    for needed in ("benchopt", library):
        pytest.importorskip(needed)
    spec = importlib.util.spec_from_file_location(library + "_s", PEERS / f"{library}_samplers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    solver = module.Solver()
    solver.method = method
    return solver


# Rules that are exact for a Gaussian prior, here of unit variance, up to the size of a step.
@pytest.mark.parametrize(
    ("library", "method", "steps", "vjps"),
    [
        ("azula", "MMPS", 200, 400),
        ("azula", "JFPS", 600, 0),
        ("deepinv", "PiGDM", 300, 300),
        ("deepinv", "MomentMatching", 100, 300),
    ],
)
def test_exact_rules_are_exact(library: str, method: str, steps: int, vjps: int) -> None:
    problem = PROBLEMS["gaussian-half"](seed=3)
    solver = solver_of(library, method)
    solver.set_objective(problem=problem, seeds=seeds_of(0))
    solver.run(600)
    result = solver.get_result()
    samples, law = torch.as_tensor(result["samples"]), moments(problem.exact)
    assert (result["evaluations"], result["vjps"]) == (steps, vjps)
    assert mean_error(samples, law.mean, law.std) < 0.1
    assert 0.8 < variance_ratio(samples, law.std) < 1.1


@pytest.mark.parametrize(("library", "method"), [("azula", "PGDM"), ("deepinv", "PiGDM")])
def test_linear_rules_skip_other_operators(library: str, method: str) -> None:
    solver, seeds = solver_of(library, method), seeds_of(0)
    nonlinear, linear = (PROBLEMS[key](seed=0) for key in ("radius", "banana"))
    assert solver.refused(nonlinear, seeds) == f"{method} needs a linear operator."
    assert solver.skip(problem=linear, seeds=seeds) == (False, None)
