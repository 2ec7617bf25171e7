"""Dynamic CFG: the weight of each step is the one whose outcome evaluators like best."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import CapabilityError, ShapeError, require
from ...diffusion.kernel import bridge
from ...diffusion.solver import DDIM, Solver
from ...target import Tilted
from ..base import Estimate, Memory, StepInfo, TiltedRule

# Scores of noisy states: takes `x` `[*batch, *event]` and a noise level to `[*batch]`, the larger the better.
Evaluator = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class DynamicCFG(TiltedRule):
    """Dynamic classifier-free guidance (Papalampidi et al., 2026, arXiv:2509.16131): a greedy choice of the weight.

    At each step the DDIM move to the next level is made with every weight of `weights`, evaluators
    score the noisy states that result, and each sample takes the weight of its best total
    `sum_e a_e e(x)`. Evaluators whose score has moved between the last two steps count more:
    `a_e ~ |e_t - e_{t+1}| / (|e_{t+1}| + floor)`, of sum 1; until there are two, all count the same. A
    relative change needs a score whose 0 means something; where the scores have one unit, as
    log-probabilities do, fixed `shares` are as good. The target's own weight is not used. Two
    evaluations a step, and one score for each weight and evaluator.

    Args:
        weight: None; the rule has `weights`.
        weights: What is chosen from; the default is the paper's for latent diffusion.
        evaluators: At least one. A `repr` leaves them out; a rule that is rebuilt from one has none.
        floor: What is added to a score's size before it is divided by, in the score's unit.
        shares: Fixed a_e in place of the changing ones, one for each evaluator.
        as_published: What is done as in the paper:

            - `literal`: shares are `a_e = (e_t - e_{t+1}) / e_{t+1}`, which may be negative or huge (0 where
              e_{t+1} is 0) and turn against a negative score that grows.
    """

    weights: tuple[float, ...] = (1.0, 3.0, 7.5, 11.0, 15.0)
    evaluators: tuple[Evaluator, ...] = field(default=(), repr=False)
    floor: float = 1.0
    shares: tuple[float, ...] | None = None
    as_published: tuple[str, ...] = ()
    switches: ClassVar = {"literal": ("literal", True)}
    suited: ClassVar[Solver] = DDIM()
    needs: ClassVar[str] = "evaluators of noisy states, and an unconditional member"
    limits: ClassVar = {"floor": "(0, inf)"}

    def __post_init__(self) -> None:
        require(
            self.weight is None,
            f"DynamicCFG chooses from weights={self.weights}; weight={self.weight} has no part in it.",
        )
        require(
            len(self.weights) > 0 and all(0 <= w < math.inf for w in self.weights),
            f"The weights to choose from are numbers of at least 0; weights={self.weights}.",
        )
        # A rule that is rebuilt from its `repr` has no evaluators yet.
        each = self.shares is None or len(self.shares) == len(self.evaluators or self.shares)
        require(
            each and all(map(math.isfinite, self.shares or ())),
            f"Fixed shares are finite, one for each of {len(self.evaluators)} evaluators; shares={self.shares}.",
        )
        require(
            self.shares is None or "literal" not in self.as_published,
            "The shares are fixed or the literal ones of the paper, not both.",
        )

    @override
    def check_tilted(self, target: Tilted) -> None:
        _ = target.conditional, target.unconditional
        if not self.evaluators:
            raise CapabilityError("DynamicCFG needs evaluators: DynamicCFG(evaluators=(score,)).")

    def init(self, target: Tilted, x: Tensor) -> Memory:
        """The scores `latest` and `earlier`, `[*batch, evaluators]`, and the number of those known, `[*batch]`."""
        batch = target.space.batch(x)
        none = torch.zeros(*batch, len(self.evaluators), dtype=torch.float64, device=x.device)
        seen = torch.zeros(batch, dtype=torch.long, device=x.device)
        return {"latest": none, "earlier": none, "seen": seen}

    @override
    def __call__(self, target: Tilted, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        space, batch = target.space, target.space.batch(x)
        given = target.conditional(x, info.sigma)
        free = target.unconditional(x, info.sigma)
        # The deterministic DDIM move, of which `kept` is the share of the noise that stays.
        kept, _ = bridge(0.0, info.sigma_next, info.sigma, eta=0.0)
        guesses = [free.lerp(given, weight) for weight in self.weights]
        moves = [self._scores(x0 + kept * (x - x0), info.sigma_next, batch) for x0 in guesses]
        scores = torch.stack(moves)
        best = (self._importance(memory) * scores).sum(-1).argmax(0)
        latest = torch.take_along_dim(scores, best[None, ..., None], 0)[0]
        chosen = torch.tensor(self.weights, dtype=x.dtype, device=x.device)[best]
        x0 = free + space.per_sample(chosen) * (given - free)
        seen = memory["seen"] + 1
        return Estimate(x0, {"latest": latest, "earlier": memory["latest"], "seen": seen})

    def _scores(self, x: Tensor, sigma: float, batch: torch.Size) -> Tensor:
        """The scores of states, `[*batch, evaluators]` in float64."""
        scores = [torch.as_tensor(evaluator(x, sigma)) for evaluator in self.evaluators]
        for score in scores:
            if score.shape != batch:
                raise ShapeError(
                    f"An evaluator gives one score a sample, {tuple(batch)}; one gave {tuple(score.shape)}."
                )
        found = torch.stack([score.double() for score in scores], -1)
        # A share of 0 times an infinite score is nan, which to argmax is the greatest.
        require(bool(found.isfinite().all()), "A score of an evaluator is nan or infinite.")
        return found

    def _importance(self, memory: Memory) -> Tensor:
        """The shares a_e of the evaluators, `[*batch, evaluators]`."""
        latest, earlier = memory["latest"], memory["earlier"]
        if self.shares is not None:
            return latest.new_tensor(self.shares).expand_as(latest)
        equal = torch.full_like(latest, 1 / len(self.evaluators))
        change = latest - earlier
        if "literal" in self.as_published:
            shares = torch.where(earlier == 0, 0.0, change / earlier)
        else:
            size = change.abs() / (earlier.abs() + self.floor)
            total = size.sum(-1, keepdim=True)
            shares = torch.where(total > 0, size / total, equal)
        return torch.where((memory["seen"] >= 2)[..., None], shares, equal)
