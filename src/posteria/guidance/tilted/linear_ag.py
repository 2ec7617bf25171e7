"""LinearAG: a regression on earlier predictions in place of some unconditional evaluations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Self

import torch
from torch import Tensor
from typing_extensions import override

from ...core.errors import expect, require, whole
from ...core.rng import Rng, Seeds, listed
from ...diffusion.kernel import reverse_step
from ...diffusion.schedule import Schedule, levels_of
from ...diffusion.solver import DDIM, Solver
from ...target import Tilted
from ..base import Estimate, Memory, StepInfo, TiltedRule

Coefficients = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class LinearAG(TiltedRule):
    """LinearAG (Castillo et al., 2025, arXiv:2312.12487): CFG with every second unconditional prediction estimated.

    At the first `guided` levels a step of CFG takes turns with one in which the unconditional
    prediction of the noise, `(x - D) / sigma`, is a fixed linear combination of the conditional and
    unconditional ones so far, those that were estimated included; the rest of the schedule is
    conditional alone. The coefficients come from `fit` and hold for its levels, weight, condition and
    family. At 20 steps it takes 25 evaluations, and CFG 40. The solver makes one evaluation a step.

    Args:
        weight: The power of the condition, at least 1; by default the target's.
        levels: The noise levels of the fit without the 0 at their end.
        guided: Number of levels before the conditional rest.
        of_conditional: For each estimated level, the coefficients of the conditional predictions
            from the first level to this one.
        of_unconditional: The same of the unconditional predictions, to the level before this one.
    """

    levels: tuple[float, ...] = ()
    guided: int = 0
    of_conditional: Coefficients = ()
    of_unconditional: Coefficients = ()
    suited: ClassVar[Solver] = DDIM()
    least: ClassVar[float] = 1.0
    needs: ClassVar[str] = "coefficients, LinearAG.fit(target, schedule), and DDIM or the like"

    def __post_init__(self) -> None:
        estimated = list(range(1, self.guided, 2))
        require(
            0 <= self.guided <= len(self.levels)
            and [len(row) for row in self.of_conditional] == [k + 1 for k in estimated]
            and [len(row) for row in self.of_unconditional] == estimated,
            f"The coefficients do not fit guided={self.guided} of {len(self.levels)} levels; take them from "
            "LinearAG.fit(target, schedule).",
        )

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        target: Tilted,
        schedule: Schedule,
        seeds: Seeds = 200,
        *,
        weight: float | None = None,
        ridge: float = 1e-6,
        share: float = 0.5,
        batch: int = 50,
    ) -> Self:
        """The rule whose coefficients are least squares on trajectories of CFG with DDIM, all entries pooled.

        Two evaluations a guided level for each seed.

        Args:
            target: The tilted law.
            schedule: The levels at which the rule will be used.
            seeds: One a trajectory, or their number; not those of the samples that are judged later.
            weight: The power of the condition; by default the target's.
            ridge: Added to the diagonal of the normal equations, in units of their mean eigenvalue.
            share: Of the levels that are guided; half in the paper.
            batch: Trajectories at a time.

        Raises:
            CapabilityError: If it is no tilted law, or the family has no unconditional member.
            InputError: If an argument is out of range.
        """
        require(0 <= share <= 1, f"share is a share of the levels, from 0 to 1; {share} is not.")
        require(
            0 < ridge < math.inf,
            f"The regressors are nearly collinear and need a ridge above 0; ridge={ridge}.",
        )
        seeds, batch = listed(seeds), whole(batch, "batch")
        require(len(seeds) > 0, "A fit needs at least one seed; each is a trajectory.")
        weight = cls(weight=weight).strength(expect(target, Tilted, by="LinearAG.fit"))
        levels = levels_of(schedule)
        guided = round(share * (len(levels) - 1))
        gram = torch.zeros(2 * guided, 2 * guided, dtype=torch.float64)
        for start in range(0, len(seeds) if guided else 0, batch):
            chosen = seeds[start : start + batch]
            seen = torch.cat(predictions(target, levels[: guided + 1], chosen, weight), 1)
            flat = seen.flatten(2).double()
            gram += torch.einsum("nks,nls->kl", flat, flat).cpu()
        rows = [_regress(gram, level, ridge) for level in range(1, guided, 2)]
        return cls(
            weight=weight,
            levels=levels[:-1],
            guided=guided,
            of_conditional=tuple(tuple(row[: len(row) // 2 + 1]) for row in rows),
            of_unconditional=tuple(tuple(row[len(row) // 2 + 1 :]) for row in rows),
        )

    @override
    def check_tilted(self, target: Tilted) -> None:
        super().check_tilted(target)
        require(
            bool(self.levels), "LinearAG needs coefficients: take LinearAG.fit(target, schedule)."
        )

    def init(self, target: Tilted, x: Tensor) -> Memory:
        """The predictions of the noise so far, `given` and `free`, `[*batch, levels so far, *event]` each."""
        batch, event = target.space.batch(x), target.space.shape
        none = x.new_zeros(*batch, 0, *event)
        return {"given": none, "free": none}

    def __call__(self, target: Tilted, x: Tensor, info: StepInfo, memory: Memory) -> Estimate:
        """The estimate with the guidance that the fit foretells, from the level on where it stops being evaluated.

        Raises:
            InputError: If the levels are not those of the fit, or the solver makes several
                evaluations a step.
        """
        level, sigma, weight = info.index, info.sigma, self.strength(target)
        axis = len(target.space.batch(x))
        self._check_step(info)
        x0 = target.conditional(x, sigma)
        if level >= self.guided or weight == 1:
            return Estimate(x0, memory)
        seen = memory["free"].shape[axis]
        require(
            level == seen,
            "LinearAG needs a solver of one evaluation a step, such as DDIM(); this one made "
            f"{seen} before it came to level {level}.",
        )
        given = torch.cat([memory["given"], ((x - x0) / sigma).unsqueeze(axis)], axis)
        if level % 2:
            noise = self.estimate(given, memory["free"], level, axis)
            free = x - sigma * noise
        else:
            free = target.unconditional(x, sigma)
            noise = (x - free) / sigma
        past = torch.cat([memory["free"], noise.unsqueeze(axis)], axis)
        return Estimate(free.lerp(x0, weight), {"given": given, "free": past})

    def estimate(self, given: Tensor, free: Tensor, level: int, axis: int = 1) -> Tensor:
        """The unconditional prediction of the noise at an estimated level, `[*batch, *event]`.

        Args:
            given: The conditional predictions from the first level to this one, along `axis`.
            free: The unconditional ones, to the level before.
            level: Its place in the schedule.
            axis: The axis of levels.
        """
        row = [*self.of_conditional[level // 2], *self.of_unconditional[level // 2]]
        seen = [*given.unbind(axis), *free.unbind(axis)]
        # Term by term: the last bits of a matrix product depend on the number of samples.
        out = torch.zeros_like(seen[0])
        for coefficient, prediction in zip(row, seen, strict=True):
            out = out + coefficient * prediction
        return out

    def _check_step(self, info: StepInfo) -> None:
        steps, level = len(self.levels), info.index
        again = "fit it again: LinearAG.fit(target, schedule)."
        require(
            info.steps == steps,
            f"LinearAG was fitted to {steps} steps and this schedule has {info.steps}; {again}",
        )
        require(
            level < steps and math.isclose(info.sigma, self.levels[level], rel_tol=1e-6),
            f"LinearAG was fitted to other levels than this one, sigma={info.sigma:.6g}; {again}",
        )


def predictions(
    target: Tilted, levels: Sequence[float], seeds: Sequence[int], weight: float
) -> tuple[Tensor, Tensor]:
    """Both members' predictions of the noise along runs of CFG with DDIM, `[len(seeds), levels - 1, *event]`."""
    rng = Rng(seeds, target.space.device)
    x = levels[0] * rng.normal(target.space)
    given, free = [], []
    for sigma, sigma_next in pairwise(levels):
        x0, x0_free = target.conditional(x, sigma), target.unconditional(x, sigma)
        given.append((x - x0) / sigma)
        free.append((x - x0_free) / sigma)
        x = reverse_step(x, x0_free.lerp(x0, weight), sigma, sigma_next, 0.0, rng)
    return torch.stack(given, 1), torch.stack(free, 1)


def _regress(gram: Tensor, level: int, ridge: float) -> list[float]:
    """Coefficients of the conditional predictions to `level` and of the unconditional ones before it.

    `gram` has the products of all predictions, conditional ones first, `[2 levels, 2 levels]`.
    """
    first = len(gram) // 2
    known = [*range(level + 1), *range(first, first + level)]
    normal = gram[known][:, known]
    damped = normal + ridge * normal.diagonal().mean() * torch.eye(len(known), dtype=gram.dtype)
    coefficients: list[float] = torch.linalg.solve(damped, gram[known, first + level]).tolist()
    return coefficients
