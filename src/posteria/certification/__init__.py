"""Whether the posteriors that a sampler draws are calibrated, for a given prior, operator and noise."""

from .certificate import Certificate as Certificate
from .simulate import certify as certify
from .statistics import STATISTICS as STATISTICS
