"""The rules, by name."""

from .base import LikelihoodRule, TiltedRule
from .classifiers.classifier_guidance import ClassifierGuidance
from .classifiers.elucd import EluCD
from .classifiers.gfcg import GFCG
from .likelihood import DPS, LGD, MMPS, PSLD, TFG, TMPD, PiGDM
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

LIKELIHOOD_RULES: dict[str, type[LikelihoodRule]] = {
    "mmps": MMPS,
    "pigdm": PiGDM,
    "tmpd": TMPD,
    "lgd": LGD,
    "dps": DPS,
    "psld": PSLD,
    "tfg": TFG,
}

RULES: dict[str, type[TiltedRule]] = {
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
