"""Rules: what stands in for the denoiser of a tilted law or of a posterior."""

from typing import Any

from .._deprecated import moved
from .base import Estimate, LikelihoodRule, Memory, Pointwise, Rule, StepInfo, TiltedRule
from .classifiers.classifier import BayesClassifier, Classifier, CleanClassifier
from .classifiers.classifier_guidance import ClassifierGuidance, classified
from .classifiers.elucd import EluCD, softened
from .classifiers.gfcg import GFCG
from .likelihood import DPS, LGD, MMPS, TFG, TMPD, PiGDM
from .models.autoguidance import AutoGuidance
from .models.experts import Experts
from .models.rlg import RLG
from .nested import Nested
from .registry import LIKELIHOOD_RULES, RULES
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
    "DPS",
    "GFCG",
    "LGD",
    "LIKELIHOOD_RULES",
    "MMPS",
    "RLG",
    "RULES",
    "TFG",
    "TMPD",
    "AdaptiveGuidance",
    "AutoGuidance",
    "BayesClassifier",
    "CFGPlusPlus",
    "Classifier",
    "ClassifierGuidance",
    "CleanClassifier",
    "DynamicCFG",
    "EluCD",
    "Estimate",
    "Experts",
    "Interval",
    "LikelihoodRule",
    "LinearAG",
    "Memory",
    "Nested",
    "PiGDM",
    "Pointwise",
    "Rescale",
    "Rule",
    "StepInfo",
    "TiltedRule",
    "TwoLevel",
    "ZeroStar",
    "classified",
    "softened",
]


def __getattr__(name: str) -> Any:
    return moved(__name__, name)
