"""What solvers and objectives share: a curve over budgets, and an answer with its cost."""

import abc
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from benchopt import BaseObjective, BaseSolver
from benchopt.stopping_criterion import StoppingCriterion
from typing_extensions import override

from posteria.problems.toy import Problem
from posteria.samplers import SAMPLERS

from .budget import BUDGETS, budgeted, next_budget, refusal, sampler_named
from .measure import measure


class BudgetCriterion(StoppingCriterion):
    """A curve is done when its budget is spent, whatever its values are; `--max-runs` ends curves earlier.

    The criteria of benchopt stop when a metric no longer gets better, which that of a sampler need not do.
    """

    strategy: str | None

    def __init__(
        self,
        budget: int = BUDGETS[-1],
        strategy: str | None = None,
        key_to_monitor: str | None = None,
        minimize: bool = True,
    ) -> None:
        self.budget = budget
        super().__init__(
            budget=budget, strategy=strategy, key_to_monitor=key_to_monitor, minimize=minimize
        )

    def get_runner_instance(self, *args: Any, **kwargs: Any) -> StoppingCriterion:
        """The criterion of one solver; benchopt leaves the strategy of the first in one that several share."""
        given = self.strategy
        try:
            return super().get_runner_instance(*args, **kwargs)
        finally:
            self.strategy = given

    def check_convergence(self, objective_list: list[dict[str, Any]]) -> tuple[bool, float]:
        """Whether to stop, and how far the curve is."""
        if self.strategy == "run_once":
            return True, 1.0
        spent = objective_list[-1]["stop_val"]
        return spent >= self.budget, min(1.0, spent / self.budget)


class Answering(BaseSolver):
    """A solver that says why it cannot draw, or answers with the arguments of `Objective.evaluate_result`.

    `refused` says why (None if it can), and `draw` answers; both take what the objective gives.
    """

    requirements: ClassVar = ["pip::posteria"]
    sampling_strategy = "run_once"

    def refused(self, *args: Any, **given: Any) -> str | None:
        """Why there are no samples, in a sentence."""
        return None

    @abc.abstractmethod
    def draw(self, *args: Any, **given: Any) -> dict[str, Any]:
        """The answer for a budget, or at the cost that it has."""

    @override
    def skip(self, **given: Any) -> tuple[bool, str | None]:
        reason = self.refused(**given)
        return reason is not None, reason

    @override
    def set_objective(self, **given: Any) -> None:
        self.given = given

    @override
    def run(self, stop_val: int) -> None:
        self.result = self.draw(stop_val, **self.given)

    @override
    def get_result(self) -> dict[str, Any]:
        return self.result


class Budgeted(Answering):
    """One whose axis is the budget."""

    sampling_strategy = "iteration"
    stopping_criterion = BudgetCriterion()

    @override
    def get_next(self, stop_val: int) -> int:
        return next_budget(stop_val)


class OfRegistry(Budgeted):
    """A sampler of the package by its name, or by its `repr`, on the target of a problem."""

    parameters: ClassVar = {"sampler": list(SAMPLERS)}
    parameter_template: ClassVar = "{sampler}"

    @override
    def refused(self, problem: Problem, seeds: Sequence[int]) -> str | None:
        return refusal(sampler_named(self.sampler), problem.target, seeds)

    @override
    def draw(self, budget: int, problem: Problem, seeds: Sequence[int]) -> dict[str, Any]:
        chosen = budgeted(self.sampler, problem.target, budget)
        if isinstance(chosen, str):
            return nothing(chosen)
        return measure(chosen, problem.target, seeds).result(chosen)


class Reference(Answering):
    """Exact draws, the floor of every metric; or draws of the prior, which ignore the measurement.

    Metrics are averaged over several `sets`, so that the floor is smooth; of a signal there is one.
    """

    name = "reference"
    parameters: ClassVar = {"law": ["exact draws", "prior draws"]}
    parameter_template: ClassVar = "{law}"
    sets = 8

    @override
    def refused(self, problem: Problem, seeds: Sequence[int]) -> str | None:
        return None if problem.exact else "Nobody knows the posterior of a network."

    @override
    def draw(self, stop_val: int, problem: Problem, seeds: Sequence[int]) -> dict[str, Any]:
        prior: Any = problem.target.prior
        law = problem.exact if self.law == "exact draws" else prior
        # Not the stream of the draws that samples are compared with.
        generator = torch.Generator().manual_seed(2**32 + seeds[0])
        drawn = [law.sample(len(seeds), generator).numpy() for _ in range(self.sets)]
        samples = np.stack(drawn) if self.sets > 1 else drawn[0]
        return {"samples": samples, "evaluations": 0, "vjps": 0}


class Measured(BaseObjective):
    """An objective whose data may not be on this machine; then it is None, and there is a reason."""

    requirements: ClassVar = ["pip::posteria"]
    min_benchopt_version = "1.10"

    @override
    def skip(self, reason: str = "", **data: Any) -> tuple[bool, str | None]:
        return (True, reason) if None in data.values() else (False, None)


def nothing(why: str) -> dict[str, Any]:
    """The answer where there are no samples."""
    return {"samples": None, "note": why}


def spent(count: int = 1, **given: float) -> dict[str, float]:
    """The columns of what an answer cost; NaN for what the solver does not say. `count` samples share the seconds."""
    known = {key: given.get(key, math.nan) for key in ("evaluations", "vjps", "seconds", "memory")}
    nfe, each = known["evaluations"] + known["vjps"], known["seconds"] / count
    return {**known, "nfe": nfe, "seconds_each": each}
