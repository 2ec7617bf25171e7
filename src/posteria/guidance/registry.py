"""The rules, by name."""

from .adaptive import AdaptiveGuidance
from .apg import APG
from .autoguidance import AutoGuidance
from .base import Guidance
from .cfg import CFG
from .cfgpp import CFGPlusPlus
from .classifier_guidance import ClassifierGuidance
from .dynamic import DynamicCFG
from .elucd import EluCD
from .gfcg import GFCG
from .interval import Interval
from .linear_ag import LinearAG
from .rescale import Rescale
from .rlg import RLG
from .two_level import TwoLevel
from .zero_star import ZeroStar

RULES: dict[str, type[Guidance]] = {
    "cfg": CFG,
    "rescale": Rescale,
    "interval": Interval,
    "cfgpp": CFGPlusPlus,
    "zero_star": ZeroStar,
    "apg": APG,
    "autoguidance": AutoGuidance,
    "rlg": RLG,
    "ag": AdaptiveGuidance,
    "linear_ag": LinearAG,
    "dynamic": DynamicCFG,
    "gfcg": GFCG,
    "two_level": TwoLevel,
    "classifier": ClassifierGuidance,
    "elucd": EluCD,
}
