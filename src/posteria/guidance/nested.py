"""A rule of a tilted law inside a rule of a posterior: guided restoration."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from torch import Tensor
from typing_extensions import override

from ..core import linalg
from ..core.errors import CapabilityError, expect
from ..core.level import Level
from ..core.linalg import LinearMap
from ..core.space import Space
from ..diffusion.denoiser import Denoiser
from ..target import Posterior, Tilted
from .base import Estimate, LikelihoodRule, Memory, Rule, StepInfo, TiltedRule


@dataclass(frozen=True)
class Nested(Rule):
    """A rule of a posterior whose prior is a tilted law, which a rule of its own stands in for.

    What the outer rule differentiates is the inner one's estimate. The density is
    p(x | c)^w p(x)^(1 - w) p(y | x), as far as both rules stand for it.

    Args:
        likelihood: The rule of the posterior, such as `MMPS()`, or a sampler that is short for one.
        prior: The rule of the tilted law, such as `APG(4.0)`. It must not push the iterate.
    """

    likelihood: LikelihoodRule
    prior: TiltedRule

    needs: ClassVar[str] = "what its rules need"

    def __post_init__(self) -> None:
        short = getattr(self.likelihood, "as_rule", None)
        if short is not None:
            object.__setattr__(self, "likelihood", short())

    @override
    def check(self, target: Posterior) -> None:
        self.likelihood.check(target)
        self.prior.check(expect(target.prior, Tilted, by=self))

    @override
    def arrange(self, target: Posterior) -> Any:
        return _Arranged(self.likelihood.arrange(target), expect(target.prior, Tilted, by=self))

    @override
    def init(self, target: "_Arranged", x: Tensor) -> Memory:
        inner = self.prior.init(target.law, x)
        outer = self.likelihood.init(target.problem, x)
        return _joined(inner, outer)

    @override
    def __call__(self, target: "_Arranged", x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        inner, outer = (_part(memory, name) for name in ("inner", "outer"))
        prior = _Inner(self.prior, target.law, info, inner)
        estimate = self.likelihood(replace(target.problem, prior=prior), x, info, outer)
        return estimate._replace(memory=_joined(prior.memory, estimate.memory))


class _Arranged(NamedTuple):
    """A target as `Nested` sees it: as the outer rule has arranged it, and the law that the inner one stands in for."""

    problem: Any
    law: Tilted

    @property
    def space(self) -> Space:
        """Space of the samples."""
        return self.law.space


class _Inner(Denoiser):
    """The inner rule at one evaluation of the outer one, as its prior."""

    def __init__(self, rule: TiltedRule, law: Tilted, info: StepInfo, memory: Memory) -> None:
        self.rule, self.law, self.info, self.space = rule, law, info, law.space
        self.before = self.memory = memory

    @property
    @override
    def base(self) -> Denoiser:
        return self.law.base

    def _estimate(self, x: Tensor) -> Tensor:
        estimate = self.rule(self.law, x, self.info, self.before)
        if estimate.push is not None:
            raise CapabilityError(
                f"{type(self.rule).__name__} pushes the iterate and cannot stand inside another rule; "
                "take one that gives an estimate only, such as CFG or APG."
            )
        self.memory = {name: value.detach() for name, value in estimate.memory.items()}
        return estimate.x0

    @override
    def __call__(self, x: Tensor, sigma: Level) -> Tensor:
        return self._estimate(x)

    @override
    def vjp(self, x: Tensor, sigma: Level) -> tuple[Tensor, LinearMap]:
        return linalg.vjp(self._estimate, x, self.rule)


def _joined(inner: Memory, outer: Memory) -> Memory:
    return {f"inner.{k}": v for k, v in inner.items()} | {
        f"outer.{k}": v for k, v in outer.items()
    }


def _part(memory: Memory, name: str) -> Memory:
    return {k.removeprefix(f"{name}."): v for k, v in memory.items() if k.startswith(f"{name}.")}
