"""Classifier-free guidance."""

from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from ...target import Tilted
from ..base import Pointwise


@dataclass(frozen=True)
class CFG(Pointwise):
    """Classifier-free guidance (Ho & Salimans, 2022, arXiv:2207.12598): `D_u + weight (D_c - D_u)`.

    Weight 1 is the conditional law, as in Imagen and diffusers; the paper's weight is ours minus 1.
    Two evaluations, one where the weight is 0 or 1. At each level it is the score of
    p(x | c)^w p(x)^(1 - w) of the *noised* laws, which are not the noised tilted law: samples are too
    alike.

    Args:
        weight: The power of the condition; by default the target's.
    """

    @override
    def at(self, target: Tilted, x: Tensor, sigma: float | Tensor) -> Tensor:
        return cfg(target, x, sigma, self.strength(target))


def cfg(target: Tilted, x: Tensor, sigma: float | Tensor, weight: float) -> Tensor:
    """`D_u + weight (D_c - D_u)`; a member whose share is 0 is not evaluated."""
    if weight == 1:
        return target.conditional(x, sigma)
    if weight == 0:
        return target.unconditional(x, sigma)
    return target.unconditional(x, sigma).lerp(target.conditional(x, sigma), weight)
