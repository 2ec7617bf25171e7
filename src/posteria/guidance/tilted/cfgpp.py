"""CFG++: guidance that takes the noise from the unconditional model."""

from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor
from typing_extensions import override

from ...core.errors import require
from ...diffusion.kernel import bridge
from ...diffusion.solver import DDIM, Solver
from ...target import Tilted
from ..base import Estimate, Memory, StepInfo, TiltedRule
from .cfg import cfg


@dataclass(frozen=True)
class CFGPlusPlus(TiltedRule):
    """CFG++ (Chung et al., 2025, arXiv:2406.08070): a step to a guided estimate, with unguided noise.

    The paper's step, `D_u + lam (D_c - D_u) + kept (x - D_u)` where `kept = sigma_next / sigma` without
    fresh noise, is a DDIM step to `D_u + w (D_c - D_u)` with `w = lam / (1 - kept)`. That estimate is
    the rule: with `DDIM(eta)` the paper's method to rounding, with another solver CFG with these
    weights. They grow as steps get finer: there is no law that many steps tend to. Two evaluations.
    The weight of the target is not used.

    Args:
        weight: None; the strength is `lam`.
        lam: From 0 (unconditional) to 1; the paper sets 1 against CFG's 12.5.
        eta: That of the `DDIM` solver it runs with, 1 for `DDPM`.
    """

    suited: ClassVar[Solver] = DDIM()
    lam: float = 0.6
    eta: float = 0.0
    limits: ClassVar = {"lam": "[0, 1]", "eta": "[0, 1]"}

    def __post_init__(self) -> None:
        require(
            self.weight is None,
            f"CFG++ is set by lam, from 0 to 1, and not by a weight; weight={self.weight}: "
            "write CFGPlusPlus(lam=0.6).",
        )

    @classmethod
    def presets(cls) -> dict[str, Self]:
        """Those of the official code: 0.6 for Stable Diffusion in 50 steps, 1 for SDXL-Lightning."""
        return {"sd": cls(lam=0.6), "sdxl-lightning": cls(lam=1.0)}

    @override
    def check_tilted(self, target: Tilted) -> None:
        _ = target.conditional, target.unconditional

    def weight_at(self, info: StepInfo) -> float:
        """The weight of CFG that makes the step from `info.sigma` to `info.sigma_next` the paper's."""
        kept, _ = bridge(0.0, info.sigma_next, info.sigma, self.eta)
        return self.lam / (1 - kept)

    @override
    def __call__(self, target: Tilted, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        return Estimate(cfg(target, x, info.sigma, self.weight_at(info)), memory)
