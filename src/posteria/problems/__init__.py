"""Named problems whose answers are known exactly."""

from .tilted import TILTED_PROBLEMS as TILTED_PROBLEMS, TiltedProblem as TiltedProblem
from .toy import PROBLEMS as PROBLEMS, Problem as Problem
