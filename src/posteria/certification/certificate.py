"""What simulations say of a sampler: tests, coverage, and a verdict in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import require
from ..core.meter import Cost
from ..metrics.calibration import holm, rank_tests
from .statistics import Kind

# Simulations below which no test has a meaning, and samples below which a rank has none.
FEWEST, FEWEST_SAMPLES = 10, 4
# Credibility of the intervals whose coverage is stated.
HALF, MOST = 0.5, 0.9
# What a verdict may say, in the order in which it says it.
FAULTS = {
    "diverged": "diverged",
    "shifted": "shifted",
    "sure": "too sure",
    "wide": "too wide",
    "unexplained": "too far from the measurement",
    "overfitted": "too near to the measurement",
    "shape": "of another shape",
}


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """A statistic, with the ranks of the truths among their samples.

    Args:
        name: Of the statistic.
        kind: What its deviations mean.
        ranks: One a simulation, from 0 to the number of samples.
        shift: Mean normal score of the truths: above 0 they lie above the samples.
        width: Standard deviation of the scores: above 1 the samples are too near to each other.
        p_values: Of shift, width and shape, each by itself.
        adjusted: The same for all tests of the certificate (Holm).
    """

    name: str
    kind: Kind
    ranks: list[int]
    shift: float
    width: float
    p_values: list[float]
    adjusted: list[float]

    def faults(self, level: float) -> set[str]:
        """What its tests reject at a level over all, by the names of `FAULTS`."""
        shift, width, shape = (p < level for p in self.adjusted)
        above = self.shift > 0
        on_shift, on_width = {
            "value": ("shifted", "sure" if self.width > 1 else "wide"),
            "distance": ("sure" if above else "wide", "shape"),
            "fit": ("unexplained" if above else "overfitted", "shape"),
        }[self.kind]
        found = {on_shift} if shift else set()
        # Ranks end: where all truths lie on one side their scores are near to each other for that reason.
        width = width and not (self.kind == "value" and shift and self.width < 1)
        return found | ({on_width} if width else set()) | ({"shape"} if shape else set())


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How often central intervals hold the truth, in the mean over values and simulations, by credibility."""

    levels: list[float]
    coverage: list[float]
    error: list[float]

    def at(self, level: float) -> tuple[float, float]:
        """Coverage and error at one of the levels."""
        which = min(range(len(self.levels)), key=lambda i: abs(self.levels[i] - level))
        return self.coverage[which], self.error[which]

    def stated(self, level: float) -> str:
        """The coverage in words."""
        share, error = self.at(level)
        digits = 0 if error >= 0.005 else 1
        return f"{100 * share:.{digits}f} ± {max(100 * error, 0.1):.{digits}f} %"


@dataclass(frozen=True, kw_only=True)
class Residual:
    """Root mean square of `(y - A(x)) / std`, in the mean over simulations.

    Args:
        samples: Of the samples.
        error: Standard error over simulations.
        low: Lower end of the interval that would hold the mean of exact samples in 99 % of the cases.
        high: Its upper end.
        first: Mean square for the first sample of each simulation, 1 in the mean if it is exact.
        p_value: Of the first samples: their squares add up to a chi-square variable, whatever the prior.
        adjusted: The same for all tests of the certificate (Holm).
    """

    samples: float
    error: float
    low: float
    high: float
    first: float
    p_value: float
    adjusted: float

    def faults(self, level: float) -> set[str]:
        """What its test rejects at a level over all, by the names of `FAULTS`."""
        if self.adjusted >= level:
            return set()
        return {"unexplained" if self.first > 1 else "overfitted"}


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What simulation-based calibration (Talts et al., 2018, arXiv:1804.06788) says of a sampler.

    Args:
        simulations: Truths that were drawn, measured and sampled.
        samples: Samples that each truth was ranked among.
        level: Probability of calling an exact sampler wrong, over all tests.
        statistics: Each with its ranks and tests.
        curves: Coverage over all entries, and over all ranked values.
        residual: None where the noise is not Gaussian.
        lost: Simulations with samples that are not finite, which are not ranked.
        truths: How the truths were drawn, in words.
        cost: Of one sample.
    """

    simulations: int
    samples: int
    level: float
    statistics: list[Statistic]
    curves: dict[str, Curve]
    residual: Residual | None
    lost: int
    truths: str
    cost: Cost

    @property
    def tests(self) -> int:
        """Tests that were made, over all of which the level holds."""
        return 3 * len(self.statistics) + (self.residual is not None)

    @property
    def faults(self) -> list[str]:
        """What is wrong, by the names of `FAULTS`, in their order; empty if the sampler passes."""
        found: set[str] = {"diverged"} if self.lost else set()
        values = set().union(*(s.faults(self.level) for s in self.statistics if s.kind == "value"))
        for tested in self.statistics:
            found |= tested.faults(self.level)
        found |= self.residual.faults(self.level) if self.residual else set()
        # Far from the middle of shifted samples is the truth also if their width is right.
        if "shifted" in values and "sure" not in values:
            found -= {"sure"}
        # A shape is worth a word where nothing simpler explains it.
        return [name for name in FAULTS if name in found and (name != "shape" or len(found) == 1)]

    @property
    def passes(self) -> bool:
        """Whether no test rejects and every sample was finite."""
        return not self.faults

    @property
    def rejected(self) -> int:
        """Tests that reject at the level over all."""
        values = [p for s in self.statistics for p in s.adjusted]
        values += [self.residual.adjusted] if self.residual else []
        return sum(p < self.level for p in values)

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        at = f"at {100 * self.level:g} % over all (Holm)"
        if self.passes:
            return f"passes: none of {self.tests} tests rejects {at}; 90 % intervals hold {self._held()}"
        words = " and ".join(FAULTS[name] for name in self.faults)
        parts = [f"{words}: 90 % intervals hold {self._held()}"] if self.statistics else [words]
        if self.lost:
            parts.append(f"{self.lost} of {self.simulations} simulations have samples not finite")
        if self.rejected:
            parts.append(f"{self.rejected} of {self.tests} tests reject {at}")
        return "; ".join(parts)

    def _held(self) -> str:
        """The coverage that is farther from what it should be, in its own errors."""

        def off(name: str) -> float:
            share, error = self.curves[name].at(MOST)
            return abs(share - MOST) / max(error, 1e-3)

        name = max(self.curves, key=off)
        return f"{self.curves[name].stated(MOST)} of the {name}"

    def worst(self) -> list[Statistic]:
        """The statistics, the least uniform first."""
        return sorted(self.statistics, key=lambda tested: min(tested.p_values))

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heads and rows: what was ranked, its shift and width, and the smallest adjusted p-value."""
        heads = ["ranked", "shift", "width", "p over all"]
        return heads, [
            [s.name, f"{s.shift:+.2f}", f"{s.width:.2f}", f"{min(s.adjusted):.2g}"]
            for s in self.worst()
        ]

    def sees(self) -> str:
        """What so many simulations can see, in a sentence."""
        # Half of the probability of missing it: the deviation whose test is as likely to reject as not.
        tail = torch.tensor(self.level / (2 * max(self.tests, 1)), dtype=torch.float64)
        q = -float(torch.special.ndtri(tail))
        m = self.simulations
        low, high = (1 + sign * q / math.sqrt(2 * (m - 1)) for sign in (-1, 1))
        return (
            f"With {m} simulations a single value is as likely as not to be caught where it is shifted by "
            f"{q / math.sqrt(m):.1f} of its standard deviation, or where its intervals are {1 / high:.2f} or "
            f"{1 / max(low, 0.2):.1f} times as wide as they should be; what all values share is seen sooner, "
            "by distance and depth."
        )

    def __str__(self) -> str:
        heads, rows = self.table()
        lines = ["  ".join(f"{cell:<16}" for cell in row).rstrip() for row in [heads, *rows[:12]]]
        return "\n".join([self.verdict, *lines])


LEGEND = (
    "shift: mean normal score of the truths among their samples, in standard deviations of the samples; width: their "
    "standard deviation, above 1 where the samples are too near to each other (at most about 2, because ranks end).",
    "p: the smallest of three tests of a statistic (Student's t for shift, chi-square for width, Pearson for "
    "shape), adjusted for all tests (Holm), which holds whatever their dependence. Ties and the steps between discrete "
    "ranks are filled at random, so that the first two tests are exact. Where noise is Gaussian the squared residual "
    "of the first sample of each simulation is tested too: of exact samples it is a chi-square variable.",
    "Samples of one population depend on each other; they are ranked as a user gets them, and clones of each other "
    "count as too sure.",
)
# What a certificate does not show.
LIMITS = (
    "The prior is taken for true: the truths are its own draws, and a signal that it does not know is another matter. "
    "A certificate is of one sampler with its settings, one prior, one operator and one noise; it is an average over "
    "the truths of the prior, so that a failure on rare ones may hide in it, and so may one that none of the ranked "
    "statistics sees."
)


def judge(
    ranks: Tensor,
    names: Sequence[tuple[str, Kind]],
    samples: int,
    generator: torch.Generator,
    others: Sequence[float] = (),
) -> tuple[list[Statistic], list[float]]:
    """The tests of `ranks` `[simulations, statistics]`, and p-values of other tests adjusted together with theirs.

    Raises:
        InputError: If there are too few simulations.
    """
    m = len(ranks)
    require(m >= FEWEST, f"A certificate needs at least {FEWEST} simulations; got {m}.")
    tests = rank_tests(ranks, samples, generator)
    more = torch.tensor(list(others), dtype=torch.float64)
    every = holm(torch.cat([tests.p_values.flatten(), more]))
    adjusted = every[: tests.p_values.numel()].reshape(tests.p_values.shape)
    statistics = [
        Statistic(
            name=name,
            kind=kind,
            ranks=ranks[:, i].tolist(),
            shift=float(tests.shift[i]),
            width=float(tests.width[i]),
            p_values=tests.p_values[:, i].tolist(),
            adjusted=adjusted[:, i].tolist(),
        )
        for i, (name, kind) in enumerate(names)
    ]
    return statistics, every[tests.p_values.numel() :].tolist()


def curve(counts: Tensor) -> Curve:
    """The coverage of central intervals, from how many values have which rank, `[simulations, n + 1]`.

    A rank of n + 1 stands for a slice `1 / (n + 1)` of [0, 1], as in `metrics.interval_coverage`.
    """
    share = counts.double() / counts.sum(1, keepdim=True)
    n = share.shape[1]
    levels = torch.arange(1, 20, dtype=torch.float64) / 20
    edges = torch.arange(n + 1, dtype=torch.float64) / n
    ends = torch.stack([(1 - levels) / 2, (1 + levels) / 2])[..., None]
    inside = edges.clamp(min=ends[0], max=ends[1]).diff(dim=-1) * n
    coverage = share @ inside.T
    error = coverage.std(0) / math.sqrt(len(share))
    return Curve(levels=levels.tolist(), coverage=coverage.mean(0).tolist(), error=error.tolist())
