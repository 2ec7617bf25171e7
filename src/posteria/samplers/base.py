"""What a sampler is: frozen hyper-parameters and a pure step."""

import abc
import math
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import torch
from torch import Tensor

from ..core import linalg
from ..core.errors import CapabilityError, require, unknown, whole
from ..core.meter import Cost, Watch
from ..core.rng import Rng, Seeds, listed
from ..core.settings import Settings
from ..core.space import Space
from ..core.state import State
from ..diffusion.denoiser import Scale
from ..diffusion.reading import beyond
from ..diffusion.schedule import Schedule, Table, levels_of
from ..target import Posterior, metered
from .diagnostics import Diagnostics, diagnose

S = TypeVar("S", bound=State)
# No sample lies beyond so many standard deviations of a prior or, where they are not known, highest noise levels.
FAR, FAR_UNKNOWN = 20.0, 4.0
# Samples larger than this share of the highest level have lost a tenth of their variance at the start.
SMALL = 1 / 3
LEVELS = "a schedule from far above the data to far below them (sigma_max, sigma_min), or data of about unit size"


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """What a run drew.

    Args:
        x: The samples, `[n, *event]`.
        seeds: One a sample.
        cost: What each of them cost.
        log_evidence: Estimates of log p(y), one a population, `[populations]`; None for single samples.
        ess: Effective size of each population at the end, before its last resampling, `[populations]`.
        ancestors: Number of particles of the first level from which those of the last one descend,
            `[populations]`; None where it is not followed.
        target: What was sampled.
        particles: Of a population; 1 where there are none.
    """

    x: Tensor
    seeds: tuple[int, ...]
    cost: Cost
    log_evidence: Tensor | None = None
    ess: Tensor | None = None
    ancestors: Tensor | None = None
    target: Any = None
    particles: int = 1

    def diagnostics(self) -> Diagnostics:
        """What the samples say of themselves: residual, chains, effective sizes, and what is not finite."""
        said = {name: getattr(self, name) for name in ("ess", "ancestors")}
        known = {name: value.tolist() for name, value in said.items() if value is not None}
        return diagnose(self.x, self.seeds, self.target, particles=self.particles, **known)

    def __len__(self) -> int:
        return len(self.seeds)

    def __repr__(self) -> str:
        return f"Samples({len(self)} of shape {tuple(self.x.shape[1:])}, {self.cost})"


@dataclass(frozen=True, kw_only=True)
class Sampler(Generic[S], metaclass=Settings):
    """A method that draws from a target. It holds hyper-parameters only; the target is given when it runs.

    Args:
        schedule: The noise levels that it visits.

    Attributes:
        state_type: The class of its states, by which a run is resumed from a file.
        needs: What it asks of the target, in a few words.
    """

    schedule: Schedule = field(default_factory=Table)
    state_type: ClassVar[type[State]] = State
    needs: ClassVar[str] = "a prior"
    # Whether it starts from noise beside which every signal is small.
    from_noise: ClassVar[bool] = True
    # Evaluations and vjps of a step for each particle, where all steps cost the same.
    each: ClassVar[int] = 0

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """The noise levels, the last of which is 0."""
        return levels_of(self.schedule)

    @abc.abstractmethod
    def check(self, target: Any, seeds: Sequence[int]) -> Space:
        """The space of the samples; raises before any work if the sampler cannot draw from `target`."""

    def init(self, target: Any, rng: Rng) -> S:
        """The state at the highest level, where the iterate is noise."""
        x = self.levels[0] * rng.normal(target.space)
        state: Any = self.state_type(**{"x": x, "x0": x} | self.carried(target, x))
        return cast(S, state)

    def carried(self, target: Any, x: Tensor) -> dict[str, Any]:
        """What the first state has beside the noise `x`, by the names of its fields."""
        return {}

    @abc.abstractmethod
    def step(self, target: Any, state: S, sigma: float, sigma_next: float, rng: Rng) -> S:
        """The state at `sigma_next`, from that at `sigma`."""

    def evaluations(self, target: Any) -> int:
        """Evaluations and vjps of the prior for one sample, or for the population that shares them, by arithmetic.

        What is measured once a prior is left out.

        Raises:
            CapabilityError: If the sampler does not declare its cost.
        """
        if not self.each:
            raise CapabilityError(
                f"{type(self).__name__} does not declare its cost, so that a budget cannot choose its steps: give it "
                "`each` or a method `evaluations(target)`, or set its steps."
            )
        return self.shared * self.each * self.schedule.steps

    def iterate(
        self, target: Any, seeds: Seeds, resume: tuple[S, Tensor] | None = None
    ) -> Iterator[S]:
        """The states after each step, one by one.

        Args:
            target: What to draw from.
            seeds: One integer in [0, 2^32) a sample, or a number n for `range(n)`.
            resume: A state and the random streams to continue from, as `checkpoints` gives them.

        Raises:
            InputError: If what it is to continue from is of another run.
        """
        for state, _ in self.checkpoints(target, seeds, resume):
            yield state

    def checkpoints(
        self, target: Any, seeds: Seeds, resume: tuple[S, Tensor] | None = None
    ) -> Iterator[tuple[S, Rng]]:
        """As `iterate`, with the random streams as they stand after each step."""
        seeds = listed(seeds)
        with linalg.outside_inference(), torch.no_grad():
            self.check(target, seeds)
            above = self.beyond(target)
            if above:
                warnings.warn(above, RuntimeWarning, stacklevel=4)
            target, rng = self.arrange(target, seeds)
            moves = self.moves()
            if resume is None:
                state = self.init(target, rng)
            else:
                state, streams = resume
                require(
                    isinstance(state, self.state_type)
                    and len(state.x) == len(streams) == len(rng)
                    and state.count <= len(moves),
                    f"This state is of another run than {len(seeds)} seeds of {self!r}: go on with the sampler and "
                    "the seeds that it was made by.",
                )
                rng.restore(streams)
        for sigma, sigma_next in moves[state.count :]:
            with linalg.outside_inference(), torch.no_grad():
                state = self.step(target, state, sigma, sigma_next, rng)
            yield state, rng

    def beyond(self, target: Any) -> str:
        """A sentence on a first level above all that the prior's network was trained at; empty where there is none."""
        return beyond(self.levels[0], getattr(target, "prior", target))

    def moves(self) -> list[tuple[float, float]]:
        """The steps, each from one level to the next."""
        return list(pairwise(self.levels))

    def sample(self, target: Any, seeds: Seeds, batch: int | None = None) -> Tensor:
        """Draws, `[len(seeds), *event]`; an integer n stands for the seeds 0, ..., n - 1.

        With a `batch` about so many are drawn at a time, in less memory; all of a population are.

        Warns `RuntimeWarning` of draws that no prior of this scale has, or that are not finite, and of signals that are
        not small beside the highest noise level, or vanish in the lowest.

        Raises:
            PosteriaError: If the sampler cannot draw from `target`, or a seed is none.
        """
        seeds = listed(seeds)
        if batch is None:
            return self._sound(target, self._drawn(target, seeds))
        parts = self.batches(seeds, whole(batch, "A batch of samples"))
        self.check(target, seeds)
        drawn, begun = [], 0
        for part in parts:
            rows = slice(begun, begun := begun + len(part))
            own = target.part(rows) if isinstance(target, Posterior) else target
            drawn.append(self._drawn(own, part))
        return self._sound(target, torch.cat(drawn))

    def run(self, target: Any, seeds: Seeds) -> Samples:
        """Draws with what they cost and what a population says of itself.

        Raises:
            PosteriaError: As `sample`.
        """
        seeds = listed(seeds)
        self.check(target, seeds)
        watched, meter = metered(target)
        operator = getattr(getattr(watched, "likelihood", None), "operator", None)
        worked = self.worked(target, seeds)
        with Watch(meter, worked, operator, target.space.device):
            state = self._last(watched, seeds)
        return Samples(
            x=self._sound(target, self.draws(target, state, seeds)),
            seeds=tuple(seeds),
            cost=meter.cost(worked),
            target=target,
            particles=self.shared,
            **self.diagnostics(state),
        )

    def _drawn(self, target: Any, seeds: Sequence[int]) -> Tensor:
        return self.draws(target, self._last(target, seeds), seeds)

    def _last(self, target: Any, seeds: Seeds) -> S:
        return deque(self.iterate(target, seeds), maxlen=1)[0]

    def _sound(self, target: Any, x: Tensor) -> Tensor:
        """The draws, with a warning where their size is none that the prior or the noise levels allow."""
        suspicion = self._suspicion(x, getattr(target, "prior", target).base.scale)
        if suspicion:
            warnings.warn(f"{type(self).__name__} {suspicion}", RuntimeWarning, stacklevel=3)
        return x

    def _suspicion(self, x: Tensor, known: Scale | None) -> str:
        high, low = (self.levels[0], self.levels[-2]) if self.from_noise else (math.inf, 0.0)
        most, size = FAR_UNKNOWN * high, float(torch.linalg.vector_norm(x)) / math.sqrt(x.numel())
        if known is not None:
            most, size = float(known.mean.abs().max()) + FAR * known.std, known.std
        reached = float(x.abs().max())
        if not reached <= most:
            return (
                f"diverged: its samples reach {reached:.4g} in data units, where those of the prior stay below "
                f"{most:.4g}. Try more steps, smaller steps of its optimiser, or another sampler"
                f"{f', or {LEVELS}' if known is None else ''}."
            )
        if size > SMALL * high:
            ran = "" if known is not None else "If they did not run away for want of steps, "
            return (
                f"starts from noise of {high:.4g}, beside which signals of {size:.3g} are not small, so that noise "
                f"alone is not where they start. {ran}{'take' if ran else 'Take'} {LEVELS}."
            )
        if 0 < size < low / 4 < high / 4 and self.shared == 1:
            return f"ends at noise of {low:.4g}, in which signals of {size:.2g} vanish: take more steps, {LEVELS}."
        return ""

    def diagnostics(self, state: S) -> dict[str, Tensor]:
        """What a last state says of itself, by the names of `Samples`."""
        return {}

    def with_steps(self, steps: int) -> Self:
        """The same sampler with another number of steps."""
        return replace(self, schedule=replace(self.schedule, steps=steps))

    def arrange(self, target: Any, seeds: Sequence[int]) -> tuple[Any, Rng]:
        """The target as `init` and `step` see it, and their random streams: one a sample, or one a population."""
        return target, Rng(seeds, target.space.device)

    def draws(self, target: Any, state: S, seeds: Sequence[int]) -> Tensor:
        """The samples of `seeds` that a last state holds, `[len(seeds), *event]`."""
        return state.x

    @property
    def shared(self) -> int:
        """Samples that share the work of one: 1, or the particles of a population."""
        return 1

    def worked(self, target: Any, seeds: Sequence[int]) -> int:
        """Samples whose work is done for `seeds`: they, or all particles of their populations."""
        return len(seeds)

    def batches(self, seeds: Sequence[int], size: int) -> list[list[int]]:
        """Cut seeds into batches of about `size` that do not share work."""
        return [list(seeds[start : start + size]) for start in range(0, len(seeds), size)]

    @classmethod
    def elsewhere(cls, name: str, value: Any) -> str | None:
        """Where the steps and the samples are set, for those who look for them among a sampler's settings."""
        if "steps" in name:
            return (
                f"{cls.__name__} has no setting {name!r}: {cls.__name__}().with_steps({value!r}) sets the number of "
                "steps, and schedule=... the noise levels."
            )
        if "sample" in name or "seed" in name:
            return f"{cls.__name__} has no setting {name!r}: say sample(target, seeds={value!r}) of the sampler."
        return None

    @classmethod
    def published(cls, name: str) -> Self:
        """The settings of a paper's experiment; `presets` says which paper, for what data, and what they cost.

        Raises:
            InputError: If there are none of that name.
        """
        presets = cls.presets()
        require(bool(presets), f"{cls.__name__} has no published settings; take its defaults.")
        if name not in presets:
            raise unknown(f"published setting of {cls.__name__}", name, presets)
        return presets[name]

    @classmethod
    def presets(cls) -> dict[str, Self]:
        """The published settings, by name."""
        return {}


def check_steps(fewest: int, sampler: Sampler[Any]) -> None:
    """Raise `InputError` for fewer steps than the measurement is looked at in."""
    require(
        sampler.schedule.steps >= fewest,
        f"{type(sampler).__name__} looks at the measurement from {fewest} steps on, since the last only denoises; "
        f"steps={sampler.schedule.steps}.",
    )
