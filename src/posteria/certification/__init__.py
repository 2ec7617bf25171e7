"""Whether the posteriors that a sampler draws are calibrated, for a prior, an operator and a noise of one's own."""

from .certificate import Certificate as Certificate
from .simulate import certify as certify
from .statistics import STATISTICS as STATISTICS
