"""Autoguidance: a model guided by a worse version of itself."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from ...core.errors import CapabilityError, expect
from ...diffusion.denoiser import Conditional, Denoiser
from ...target import Tilted
from ..base import Pointwise


@dataclass(frozen=True)
class AutoGuidance(Pointwise):
    """Autoguidance (Karras et al., 2024, arXiv:2406.02507): `D_0 + weight (D_1 - D_0)`.

    D_1 is the conditional model and D_0 a weaker one of the *same* condition, which errs as it does,
    only more; the unconditional member is not used. Two evaluations, of which the weak one may be
    cheap; one where the weight is 0 (the weak model) or 1. The official settings for EDM2 on ImageNet
    512 with Heun and `Karras(steps=32)`: weight 2.10 for S against XS and 2.05 for XXL against M.

    Args:
        weight: By default the target's.
        weak: The weak model, a denoiser for the target's condition or a family that is given it. A
            `repr` leaves it out; a rule that is rebuilt from one has none.

    Raises:
        CapabilityError: When it is checked: if there is no weak model.
        InputError: If that does not know the condition, or draws signals of another dtype.
        ShapeError: If it draws signals of another shape.
    """

    weak: Denoiser | None = field(default=None, repr=False)
    needs: ClassVar[str] = "a weaker model of the same condition"

    @override
    def check_tilted(self, target: Tilted) -> None:
        _ = target.conditional
        target.space.expect(self._member(target).space, "The weak model draws")

    def _member(self, target: Tilted) -> Denoiser:
        if self.weak is None:
            raise CapabilityError(
                "AutoGuidance needs a weaker model: AutoGuidance(weak=denoiser)."
            )
        weak = expect(self.weak, Denoiser, by=self)
        return weak.given(target.condition) if isinstance(weak, Conditional) else weak

    @override
    def at(self, target: Tilted, x: Tensor, sigma: float | Tensor) -> Tensor:
        weight = self.strength(target)
        if weight == 1:
            return target.conditional(x, sigma)
        weak = self._member(target)(x, sigma)
        return weak if weight == 0 else weak.lerp(target.conditional(x, sigma), weight)
