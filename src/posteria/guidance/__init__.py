"""Guidance rules: what stands in for the denoiser of a tilted law."""

from .adaptive import AdaptiveGuidance
from .apg import APG
from .autoguidance import AutoGuidance
from .base import Guidance, Look, Memory, Moment, Pointwise
from .cfg import CFG
from .cfgpp import CFGPlusPlus
from .classifier import BayesClassifier, Classifier, CleanClassifier
from .classifier_guidance import ClassifierGuidance, classified
from .dynamic import DynamicCFG
from .elucd import EluCD, softened
from .experts import Experts
from .gfcg import GFCG
from .interval import Interval
from .linear_ag import LinearAG
from .registry import RULES
from .rescale import Rescale
from .rlg import RLG
from .two_level import TwoLevel
from .zero_star import ZeroStar

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
