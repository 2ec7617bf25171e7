"""Rules: what stands in for the denoiser of a tilted law or of a posterior."""

from typing import Any

from .._deprecated import moved
from .base import (
    Estimate as Estimate,
    LikelihoodRule as LikelihoodRule,
    Memory as Memory,
    Pointwise as Pointwise,
    Rule as Rule,
    StepInfo as StepInfo,
    TiltedRule as TiltedRule,
)
from .classifiers.classifier import (
    BayesClassifier as BayesClassifier,
    Classifier as Classifier,
    CleanClassifier as CleanClassifier,
)
from .classifiers.classifier_guidance import (
    ClassifierGuidance as ClassifierGuidance,
    classified as classified,
)
from .classifiers.elucd import EluCD as EluCD, softened as softened
from .classifiers.experts import Experts as Experts
from .classifiers.gfcg import GFCG as GFCG
from .likelihood import (
    DPS as DPS,
    LGD as LGD,
    MMPS as MMPS,
    PSLD as PSLD,
    TFG as TFG,
    TMPD as TMPD,
    PiGDM as PiGDM,
)
from .models.autoguidance import AutoGuidance as AutoGuidance
from .models.rlg import RLG as RLG
from .nested import Nested as Nested
from .registry import LIKELIHOOD_RULES as LIKELIHOOD_RULES, RULES as RULES
from .tilted.adaptive import AdaptiveGuidance as AdaptiveGuidance
from .tilted.apg import APG as APG
from .tilted.cfg import CFG as CFG
from .tilted.cfgpp import CFGPlusPlus as CFGPlusPlus
from .tilted.dynamic import DynamicCFG as DynamicCFG
from .tilted.interval import Interval as Interval
from .tilted.linear_ag import LinearAG as LinearAG
from .tilted.rescale import Rescale as Rescale
from .tilted.two_level import TwoLevel as TwoLevel
from .tilted.zero_star import ZeroStar as ZeroStar


def __getattr__(name: str) -> Any:
    return moved(__name__, name)
