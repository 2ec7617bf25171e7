"""What the benchmarks of `benchmarks/` share: budgets, what a run cost, and a hash of the code behind a result."""

import sys
from pathlib import Path

from .budget import BUDGETS, budgeted, next_budget, refusal, sampler_named
from .code import code_hash
from .measure import Draws, measure, seeds_of

# Recipes say what was held out.
sys.path.append(str(Path(__file__).parents[2] / "training"))
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
