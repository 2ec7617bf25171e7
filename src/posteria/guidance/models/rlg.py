"""Guidance by a tuned model: how far to follow a fine-tuning, chosen when sampling."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from ...core.errors import CapabilityError, expect, require
from ...diffusion.denoiser import Conditional, Denoiser
from ...target import Tilted
from ..base import Pointwise


@dataclass(frozen=True)
class RLG(Pointwise):
    """Reinforcement learning guidance (Jin et al., 2025, arXiv:2508.21016): `D_base + weight (D_tuned - D_base)`.

    Where tuning has made `p_tuned = p_base exp(r / b)` of a reward r, it aims at `p_base exp(w r / b)`:
    weight 0 is the base model and 1 the tuned one. The target's weight, unless the rule has one, is
    that power here; the power of the condition within both models is `guidance`. Exact where tuning
    has only moved a law, otherwise with the bias of CFG. Two evaluations, four where `guidance` is
    neither 0 nor 1; half of that where the weight is 0 or 1.

    Args:
        weight: How far to follow the tuning, 1 to 3 in the paper; by default the target's.
        tuned: The tuned model, a family that is given the target's condition, or a denoiser for
            it. A `repr` leaves it out; a rule that is rebuilt from one has none.
        guidance: Weight of classifier-free guidance inside each model, applied first.

    Raises:
        CapabilityError: When it is checked: if there is no tuned model, or one of both has no unconditional member
            where `guidance` needs it.
        InputError: If that does not know the condition, or draws signals of another dtype.
        ShapeError: If it draws signals of another shape.
    """

    tuned: Denoiser | None = field(default=None, repr=False)
    guidance: float = 1.0
    needs: ClassVar[str] = "a tuned model"
    limits: ClassVar = {"guidance": "[0, inf)"}

    @override
    def check_tilted(self, target: Tilted) -> None:
        self._base(target)
        target.space.expect(self._tuned(target).space, "The tuned model draws")

    def _base(self, target: Tilted) -> Denoiser:
        return Tilted(target.prior, target.condition, self.guidance)

    def _tuned(self, target: Tilted) -> Denoiser:
        if self.tuned is None:
            raise CapabilityError("RLG needs a tuned model: RLG(tuned=denoiser).")
        tuned = expect(self.tuned, Denoiser, by=self)
        if isinstance(tuned, Conditional):
            return Tilted(tuned, target.condition, self.guidance)
        require(
            self.guidance == 1,
            f"guidance={self.guidance} needs a conditional tuned model, such as a Family; "
            "this one has a single member.",
        )
        return tuned

    @override
    def at(self, target: Tilted, x: Tensor, sigma: float | Tensor) -> Tensor:
        weight = self.strength(target)
        if weight == 0:
            return self._base(target)(x, sigma)
        tuned = self._tuned(target)(x, sigma)
        return tuned if weight == 1 else self._base(target)(x, sigma).lerp(tuned, weight)
