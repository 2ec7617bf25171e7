"""The guider that evaluates a rule. Imports diffusers, so that only `to_diffusers` imports it."""

from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput
from torch import Tensor
from typing_extensions import override

from ..core.errors import CapabilityError, require
from ..core.space import Space
from ..diffusion.denoiser import Denoiser, Family, Label
from ..guidance.base import Estimate, Memory, StepInfo
from ..guidance.tilted.cfgpp import CFGPlusPlus
from ..priors.pipeline.schedules import sigma_of
from ..target import Tilted
from .fits import rule_from


class Evaluated(Denoiser):
    """A denoiser whose estimate is given; None if the network was not evaluated."""

    def __init__(self, value: Tensor | None, space: Space) -> None:
        self.value = value
        self.space = space
        self.used = False

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.used = True
        return torch.zeros_like(x) if self.value is None else self.value


class RuleGuider(BaseGuidance):  # type: ignore[misc]
    """A guidance rule that is evaluated at `x = 0`, where an output F of the network is the estimate `out F`.

    Each sample is treated by itself. Arguments as of `to_diffusers`, which takes only rules for which that
    is the same as at the latents: the rule by its `repr`, the scheduler by its configuration with
    `_class_name`. Where it is not `enabled` the conditional model is alone in all steps.
    """

    _input_predictions = ["pred_cond", "pred_uncond"]  # ruff: ignore[mutable-class-default]

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        rule: str = "CFG()",
        weight: float | None = None,
        scheduler: dict[str, Any] | None = None,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ) -> None:
        super().__init__(start, stop, enabled)
        self.rule, self.reading = rule_from(rule, scheduler)
        # CFG++ has a strength of its own and takes no weight.
        own = 1.0 if isinstance(self.rule, CFGPlusPlus) else self.rule.weight
        strength = own if own is not None else weight
        require(
            strength is not None,
            f"{type(self.rule).__name__} has no weight of its own; give one, such as weight=7.5.",
        )
        self.guidance_scale = float(strength or 0.0)
        self._scheduler: Any = None
        self._memory: list[Memory] = []
        # Of a sample of the run; before its first step, of any.
        self._space = Space((1,))
        # Whether the outputs of the step that was announced last are still awaited.
        self._awaits = False
        self.rule.check(self._target(None, None, self._space))

    def follow(self, scheduler: Any) -> None:
        """Take the levels of the next steps from a scheduler, the pipeline's own. `CFGPlusPlus` needs it."""
        self._scheduler = scheduler

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """Where the run is; its first step forgets the run before."""
        super().set_state(step, num_inference_steps, timestep)
        self._awaits = True
        if step == 0:
            self._memory = []

    @override
    def prepare_inputs(self, data: dict[str, Any]) -> list[Any]:
        names = self._input_predictions[: self.num_conditions]
        return [self._prepare_batch(data, place, name) for place, name in enumerate(names)]

    @override
    def prepare_inputs_from_block_state(
        self, data: Any, input_fields: dict[str, Any]
    ) -> list[Any]:
        names = self._input_predictions[: self.num_conditions]
        return [
            self._prepare_batch_from_block_state(input_fields, data, place, name)
            for place, name in enumerate(names)
        ]

    def forward(self, pred_cond: Tensor, pred_uncond: Tensor | None = None) -> Any:
        """The guided output of the network, `[n, *event]` as its arguments."""
        pred = pred_cond if self._alone else self._guided(pred_cond, pred_uncond)
        self._awaits = False
        return GuiderOutput(pred=pred, pred_cond=pred_cond, pred_uncond=pred_uncond)

    @property
    def is_conditional(self) -> bool:
        """Whether the pass that is being made is the conditional one."""
        return bool(self._count_prepared == 1)

    @property
    def num_conditions(self) -> int:
        """Passes of the step that was announced; between two steps, the most that one may take.

        A pipeline reads it before its first step, to know whether it needs a negative prompt.
        """
        if not self._awaits:
            return 2 if self._enabled else 1
        return 2 if not self._alone and self._uses_unconditional() else 1

    @property
    def _alone(self) -> bool:
        """Whether this step is the conditional model's alone."""
        if not self._enabled:
            return True
        require(
            self._num_inference_steps is not None,
            "A guider needs its place in the run before it is evaluated: guider.set_state(step, steps, timestep).",
        )
        first, last = (
            int(share * self._num_inference_steps) for share in (self._start, self._stop)
        )
        return not first <= self._step < last

    def _uses_unconditional(self) -> bool:
        """Whether the rule, as it stands, will evaluate the unconditional member for any sample."""
        memories: list[Memory] | list[None] = self._memory or [None]
        for memory in memories:
            target = self._target(None, None, self._space)
            self._evaluate(target, self._space.zeros(1), memory)
            if isinstance(target.unconditional, Evaluated) and target.unconditional.used:
                return True
        return False

    def _guided(self, given: Tensor, free: Tensor | None) -> Tensor:
        _, _, out = self.reading.coefficients(self._step_info.sigma)
        wide = torch.promote_types(given.dtype, torch.float32)
        space = Space(tuple(given.shape[1:]), wide, given.device)
        x, estimates = space.zeros(1), []
        for row in range(len(given)):
            outputs = [
                None if f is None else out * f[row : row + 1].to(wide) for f in (given, free)
            ]
            memory = self._memory[row] if self._memory else None
            estimates.append(
                self._evaluate(self._target(outputs[0], outputs[1], space), x, memory)
            )
        self._memory, self._space = [each.memory for each in estimates], space
        return (torch.cat([each.x0 for each in estimates]) / out).to(given.dtype)

    def _evaluate(self, target: Tilted, x: Tensor, memory: Memory | None) -> Estimate:
        if memory is None:
            memory = self.rule.init(target, x)
        return self.rule(target, x, self._step_info, memory)

    def _target(self, given: Tensor | None, free: Tensor | None, space: Space) -> Tilted:
        family = Family(Evaluated(free, space), {0: Evaluated(given, space)})
        return Tilted(family, Label(0), self.guidance_scale)

    @property
    def _step_info(self) -> StepInfo:
        following = self._following if isinstance(self.rule, CFGPlusPlus) else 0.0
        sigma = sigma_of(self.reading, _number(self._timestep))
        return StepInfo(sigma, following, self._step, self._num_inference_steps)

    @property
    def _following(self) -> float:
        """The level at which the network is evaluated next; 0 after the last."""
        if self._scheduler is None:
            raise CapabilityError(
                "CFGPlusPlus depends on the level of the next step; give the guider the pipeline's scheduler: "
                "guider.follow(pipe.scheduler)."
            )
        now = _number(self._timestep)
        later = [t for t in map(float, self._scheduler.timesteps) if t < now]
        return sigma_of(self.reading, max(later)) if later else 0.0


def _number(timestep: Any) -> float:
    """A timestep, which pipelines give as a number, or as a tensor with one entry or one for each sample."""
    return float(timestep.flatten()[0]) if isinstance(timestep, Tensor) else float(timestep)
