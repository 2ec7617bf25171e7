"""Which rules can be guiders of diffusers, for which networks."""

from collections.abc import Callable
from typing import Any

from ..core.errors import CapabilityError
from ..core.settings import rebuild
from ..diffusion import betas, parametrisation
from ..diffusion.parametrisation import X0, Epsilon, FlowMatching, Parametrisation
from ..guidance.base import TiltedRule
from ..guidance.tilted.adaptive import AdaptiveGuidance
from ..guidance.tilted.apg import APG
from ..guidance.tilted.cfg import CFG
from ..guidance.tilted.cfgpp import CFGPlusPlus
from ..guidance.tilted.interval import Interval
from ..guidance.tilted.rescale import Rescale
from ..guidance.tilted.zero_star import ZeroStar
from ..priors.pipeline.schedulers import reading_of

# Whether a rule can do without the latents, for what a network predicts.
Fits = Callable[[Any, Parametrisation], bool]


def _alike(a: Parametrisation, b: Parametrisation) -> bool:
    """Whether two outputs of a network differ by a factor only."""
    return all(a.coefficients(s)[1] == b.coefficients(s)[1] for s in (0.1, 1.0, 10.0))


# A guider sees the outputs F of the network alone, where D = skip x + out F. What a rule says of the
# F must be what it says of the D, whatever x is.
FITS: dict[type[TiltedRule], tuple[Fits, str]] = {
    CFG: (lambda rule, reading: True, ""),
    Interval: (lambda rule, reading: True, ""),
    CFGPlusPlus: (lambda rule, reading: True, ""),
    APG: (
        lambda rule, reading: rule.eta == 1 or _alike(X0(), reading),
        "eta=1, or a network that predicts the clean signal",
    ),
    Rescale: (
        lambda rule, reading: _alike(rule.output, reading),
        "the output to be what the network predicts, such as Rescale(output=Epsilon())",
    ),
    ZeroStar: (
        lambda rule, reading: _alike(FlowMatching(), reading),
        "a network of flow matching",
    ),
    AdaptiveGuidance: (
        lambda rule, reading: _alike(Epsilon(), reading),
        "a network that predicts the noise",
    ),
}


def rule_from(text: str, scheduler: dict[str, Any] | None) -> tuple[TiltedRule, Parametrisation]:
    """A rule from its `repr`, and what the network predicts.

    Raises:
        CapabilityError: If it cannot be a guider for that network.
        InputError: If the text describes none.
    """
    kinds: tuple[type, ...] = (
        *FITS,
        *(parametrisation.Epsilon, parametrisation.Velocity, parametrisation.X0),
        *(parametrisation.FlowMatching, parametrisation.EDM),
        *(betas.LinearBetas, betas.ScaledLinearBetas, betas.CosineBetas, betas.GivenBetas),
    )
    name = text.partition("(")[0]
    if name not in {kind.__name__ for kind in FITS}:
        raise CapabilityError(_refusal(name, "the latents or other models or evaluations"))
    rule: TiltedRule = rebuild(text, {kind.__name__: kind for kind in kinds})
    if scheduler is None:
        if not isinstance(rule, CFG):
            raise CapabilityError(
                f"{name} depends on the noise level or on what the network predicts; say which: "
                "to_diffusers(rule, scheduler=pipe.scheduler)."
            )
        # The rule says the same of any output; this reading leaves numbers as they are.
        return rule, X0()
    reading = reading_of(scheduler)
    fits, needs = FITS[type(rule)]
    if not fits(rule, reading):
        raise CapabilityError(_refusal(name, f"{needs}; otherwise the latents"))
    return rule, reading


def _refusal(name: str, needs: str) -> str:
    return (
        f"As a guider of diffusers {name} needs {needs}, which a guider is not given; run it with "
        f"Guided(rule={name}(...)) on from_diffusers(pipeline)."
    )
