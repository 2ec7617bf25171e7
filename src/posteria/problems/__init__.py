"""Named problems whose answers are known exactly."""

from .tilted import TILTED_PROBLEMS, TiltedProblem
from .toy import PROBLEMS, Problem

__all__ = ["PROBLEMS", "TILTED_PROBLEMS", "Problem", "TiltedProblem"]
