"""Guidance rules: what stands in for the denoiser of a tilted law."""

from .base import Guidance, Look, Memory, Moment, Pointwise
from .classifiers.classifier import BayesClassifier, Classifier, CleanClassifier
from .classifiers.classifier_guidance import ClassifierGuidance, classified
from .classifiers.elucd import EluCD, softened
from .classifiers.gfcg import GFCG
from .models.autoguidance import AutoGuidance
from .models.experts import Experts
from .models.rlg import RLG
from .registry import RULES
from .tilted.adaptive import AdaptiveGuidance
from .tilted.apg import APG
from .tilted.cfg import CFG
from .tilted.cfgpp import CFGPlusPlus
from .tilted.dynamic import DynamicCFG
from .tilted.interval import Interval
from .tilted.linear_ag import LinearAG
from .tilted.rescale import Rescale
from .tilted.two_level import TwoLevel
from .tilted.zero_star import ZeroStar

__all__ = [
    "APG",
    "CFG",
    "GFCG",
    "RLG",
    "RULES",
    "AdaptiveGuidance",
    "AutoGuidance",
    "BayesClassifier",
    "CFGPlusPlus",
    "Classifier",
    "ClassifierGuidance",
    "CleanClassifier",
    "DynamicCFG",
    "EluCD",
    "Experts",
    "Guidance",
    "Interval",
    "LinearAG",
    "Look",
    "Memory",
    "Moment",
    "Pointwise",
    "Rescale",
    "TwoLevel",
    "ZeroStar",
    "classified",
    "softened",
]
