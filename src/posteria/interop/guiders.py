"""Guidance rules as guiders of diffusers."""

from typing import Any

from ..core.errors import CapabilityError
from ..guidance.base import TiltedRule
from ..priors.pipeline.schedulers import config_of


def to_diffusers(
    rule: TiltedRule,
    *,
    scheduler: Any = None,
    weight: float | None = None,
    start: float = 0.0,
    stop: float = 1.0,
) -> Any:
    """A rule as a guider for the pipelines of diffusers that have one: `pipe.update_components(guider=...)`.

    A guider is given the network's outputs and no latents: which rules can do with that, and for which
    networks, is in docs/guidance.md. Where a rule leaves out the unconditional member for a whole batch,
    the pipeline does not evaluate it; it evaluates the conditional one at every step.

    Args:
        rule: The rule.
        scheduler: The pipeline's, `pipe.scheduler`; it says what the network predicts and at which
            levels. Only `CFG` can do without.
        weight: The power of the condition, if the rule has none of its own.
        start: Share of the steps before which the conditional model is alone, as in diffusers.
        stop: Share of the steps from which it is alone again.

    Returns:
        A `diffusers.guiders.BaseGuidance`. It is saved and loaded as others are.

    Raises:
        CapabilityError: If the rule needs the latents or a second evaluation, or diffusers has no
            guiders.
        InputError: If there is no weight, or it does not suit the rule.
    """
    try:
        from .rule_guider import RuleGuider
    except ImportError as error:
        raise CapabilityError(
            "Guiders need diffusers 0.36 or newer: pip install 'posteria[diffusers]'."
        ) from error
    guider = RuleGuider(
        rule=repr(rule),
        weight=weight,
        scheduler=None if scheduler is None else config_of(scheduler),
        start=start,
        stop=stop,
    )
    if scheduler is not None and not isinstance(scheduler, dict):
        guider.follow(scheduler)
    return guider
