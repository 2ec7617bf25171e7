"""Named problems whose answers are known exactly."""

from .pictures import PICTURES as PICTURES, pictures_exact as pictures_exact, tiny as tiny
from .tilted import TILTED_PROBLEMS as TILTED_PROBLEMS, TiltedProblem as TiltedProblem
from .toy import PROBLEMS as PROBLEMS, Problem as Problem
