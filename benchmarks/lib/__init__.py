"""What the benchmarks of `benchmarks/` share: budgets, what a run cost, and a hash of the code behind a result."""

from .budget import BUDGETS, budgeted, next_budget, refusal, sampler_named
from .code import code_hash
from .measure import Draws, measure, seeds_of

__all__ = [
    "BUDGETS",
    "Draws",
    "budgeted",
    "code_hash",
    "measure",
    "next_budget",
    "refusal",
    "sampler_named",
    "seeds_of",
]
