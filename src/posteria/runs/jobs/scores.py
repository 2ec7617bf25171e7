"""The numbers of guidance rules: fidelity, diversity and cost."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from typing_extensions import override

from ...core.meter import Cost
from ...guidance.classifiers.classifier import CleanClassifier
from ...metrics.diversity import (
    RBF,
    classifier_agreement,
    density_coverage,
    mean_pairwise_distance,
    precision_recall,
    saturation,
    vendi,
)
from ...metrics.features import Features, Flat, Penultimate
from ...samplers.base import Sampler
from ...samplers.diagnostics import Diagnostics
from ..report import CONVENTION
from ..results import Results, count, usable
from ..settings import TRAJECTORIES

# Samples from which shares of neighbours are worth comparing.
MANY = 200
# Of the manifolds of precision and recall, and of coverage.
NEIGHBOURS, COVERED = 3, 5
# What `score` measures.
MEASURED = (
    *("agreement", "precision", "recall", "coverage"),
    *("distance", "vendi", "clipped", "colour"),
)


@dataclass(frozen=True)
class Scores:
    """The numbers of one rule; None where one cannot be had.

    Args:
        agreement: Share of the samples that the classifier takes for the label.
        precision: Share of them on the manifold of the reference.
        recall: Share of the reference on theirs.
        coverage: Share of the reference with one of them near.
        distance: Mean distance between two of them, in features.
        vendi: Effective number of them.
        clipped: Share of the values at the ends of [-1, 1] or beyond.
        colour: Mean saturation of the colours; None for grey pictures.
        cost: Of a sample.
        seconds: Of sampling, for all samples, over all attempts.
        shared: Samples that a population would give for its cost; 1 without populations.
        levels: The noise levels that were visited, in words.
        diagnostics: What the samples say of themselves.
    """

    agreement: float | None
    precision: float | None
    recall: float | None
    coverage: float | None
    distance: float | None
    vendi: float | None
    clipped: float | None
    colour: float | None
    cost: Cost
    seconds: float
    shared: int
    levels: str
    diagnostics: Diagnostics

    def entries(self) -> dict[str, str]:
        """As a table shows them; what cannot be had, or costs nothing, is empty."""
        return {
            "agreement": _share(self.agreement),
            "precision": _share(self.precision),
            "recall": _share(self.recall),
            "coverage": _share(self.coverage),
            "distance": _number(self.distance),
            "Vendi": _number(self.vendi),
            "clipped": _share(self.clipped),
            "colour": _number(self.colour),
            "evaluations": count(self.cost.forward),
            "vjps": count(self.cost.backward),
            "classifier calls": count(self.cost.operator + self.cost.others),
            "seconds": f"{self.seconds:.1f}",
            **dict(self.diagnostics.rows()),
        }

    def whole(self) -> str:
        """The cost of a whole population, in words."""
        parts = {
            "evaluations": self.cost.forward,
            "vjps": self.cost.backward,
            "of the classifier": self.cost.operator + self.cost.others,
        }
        whole = {what: count(cost * self.shared) for what, cost in parts.items()}
        return ", ".join(f"{cost} {what}" for what, cost in whole.items() if cost)


@dataclass(frozen=True, kw_only=True)
class Generated(Results):
    """The numbers of a run.

    Args:
        scores: Of each rule, by its name, and of the reference.
        samples: Of each rule.
        reference: Draws from the conditional law.
        features: In what samples are compared.
        judge: Name of the classifier.
        judged: Rules that were guided by the classifier that judges them.
    """

    scores: dict[str, Scores]
    samples: int
    reference: int
    features: str
    judge: str | None
    judged: list[str]

    @override
    def table(self) -> tuple[list[str], list[list[str]]]:
        entries = {name: scores.entries() for name, scores in self.scores.items()}
        names = dict.fromkeys(what for row in entries.values() for what in row)
        known = [what for what in names if any(row.get(what) for row in entries.values())]
        if len(entries) == 1:
            (first,) = entries.values()
            return [], [[what, first[what]] for what in known]
        return ["rule", *known], [
            [name, *(row.get(what, "") for what in known)] for name, row in entries.items()
        ]

    @override
    def legend(self) -> list[str]:
        lines = []
        if self.judge is not None:
            lines.append(
                f"agreement: share of the samples that the classifier {self.judge!r} takes for the label."
            )
        if self.judged:
            names = ", ".join(self.judged)
            lines.append(
                f"The same classifier guided {names}, whose agreement is biased upwards by that."
            )
        if self.reference:
            lines.append(
                f"precision, recall ({NEIGHBOURS} neighbours), coverage ({COVERED}) and Vendi (bandwidth) are "
                f"relative to {self.reference} draws from the conditional law (weight 1), in {self.features}."
            )
        if self.reference and min(self.reference, self.samples) < MANY:
            lines.append(f"They vary much for so few samples; give --n {MANY} or more.")
        lines.append(
            f"distance: mean between two samples, in {self.features}. "
            "clipped: share of the values at -1, 1 or beyond."
        )
        lines += self._of_cost()
        return lines

    def _of_cost(self) -> list[str]:
        memory = max(scores.cost.memory for scores in self.scores.values())
        peak = f" Peak memory {memory:.0f} MiB." if memory else ""
        lines = [f"Costs are per sample. {CONVENTION}.{peak}"]
        visited: dict[str, list[str]] = {}
        for name, scores in self.scores.items():
            visited.setdefault(scores.levels, []).append(name)
            if scores.shared > 1:
                lines.append(
                    f"{name}: each sample's share of a population of {scores.shared}, "
                    f"which costs {scores.whole()} as a whole."
                )
        if "linear_ag" in self.scores:
            lines.append(
                f"linear_ag was fitted to {len(TRAJECTORIES)} trajectories of CFG first, which is not counted."
            )
        lines += [
            f"noise levels: {levels} ({', '.join(names)})." for levels, names in visited.items()
        ]
        return lines


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def levels_in_words(sampler: Sampler[Any]) -> str:
    """The noise levels that a sampler visits."""
    moves = sampler.moves()
    levels = [sigma for move in moves for sigma in move if sigma > 0]
    return f"{max(levels):.3g} to {min(levels):.3g} in {len(moves)} steps"


def score(
    x: Tensor, reference: Tensor | None, label: int | None, judge: CleanClassifier | None
) -> dict[str, float | None]:
    """Fidelity and diversity of pictures, or other signals; all None where some of them are not finite.

    Args:
        x: Pictures, `[n, channels, height, width]`, or sounds, `[n, channels, time]`.
        reference: Draws from the conditional law, `[m, ...]`.
        label: What they should show, if that is known.
        judge: Says what they show, and gives the features in which they are compared; None compares values.
    """
    found: dict[str, float | None] = dict.fromkeys(MEASURED)
    if not bool(usable(x).all()):
        return found
    features: Features = Flat() if judge is None else Penultimate(judge)
    here, n = features(x), len(x)
    many = (
        reference is not None
        and min(n, len(reference)) > COVERED
        and bool(usable(reference).all())
    )
    pictured = saturation(x) if x.ndim == 4 else None
    clipped = float((x.abs() >= 1).double().mean()) if pictured is None else pictured.clipped
    found["distance"] = mean_pairwise_distance(here) if n > 1 else None
    found["clipped"] = clipped
    found["colour"] = pictured.colour if pictured and x.shape[1] == 3 else None
    if judge is not None and label is not None:
        found["agreement"] = classifier_agreement(judge, x, label)
    if reference is not None and many:
        there = features(reference)
        found["precision"], found["recall"] = precision_recall(here, there, NEIGHBOURS)
        found["coverage"] = density_coverage(here, there, COVERED).coverage
        width = mean_pairwise_distance(there)
        found["vendi"] = vendi(here, RBF(width)) if 0 < width < math.inf else None
    return found
