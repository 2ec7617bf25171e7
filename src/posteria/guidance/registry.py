"""The rules, by name."""

from .base import Guidance
from .classifiers.classifier_guidance import ClassifierGuidance
from .classifiers.elucd import EluCD
from .classifiers.gfcg import GFCG
from .models.autoguidance import AutoGuidance
from .models.rlg import RLG
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
