"""What came of guidance rules: fidelity, diversity, cost, and pictures side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..guidance.classifiers.classifier import CleanClassifier
from ..metrics.diversity import (
    RBF,
    classifier_agreement,
    density_coverage,
    mean_pairwise_distance,
    precision_recall,
    saturation,
    vendi,
)
from ..metrics.features import Features, Flat, Penultimate
from ..samplers.base import Sampler
from .engine import Cost, peak_memory
from .generate_report import write_report
from .pictures import grid, png, to_bytes
from .plan import CONVENTION, REFERENCE
from .rules import TRAJECTORIES
from .store import Store

if TYPE_CHECKING:
    from .generate import Job

# Pictures of one rule that are shown.
SHOWN = 64
# Samples of one rule in the picture that shows the rules side by side.
ACROSS = 12
# Samples from which shares of neighbours are worth comparing.
MANY = 200
# Of the manifolds of precision and recall, and of coverage.
NEIGHBOURS, COVERED = 3, 5


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
        forward: Evaluations of the prior, and of other denoisers, per sample, or for a population.
        backward: Products with their transposed Jacobians, likewise.
        calls: Evaluations of the classifier, likewise.
        seconds: Of sampling, for all samples, over all attempts.
        shared: Samples that a population would give for its cost; 1 without populations.
        levels: The noise levels that were visited, in words.
    """

    agreement: float | None
    precision: float | None
    recall: float | None
    coverage: float | None
    distance: float | None
    vendi: float | None
    clipped: float
    colour: float | None
    forward: float
    backward: float
    calls: float
    seconds: float
    shared: int
    levels: str

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
            "evaluations": _count(self.forward / self.shared),
            "vjps": _count(self.backward / self.shared),
            "classifier calls": _count(self.calls / self.shared),
            "seconds": f"{self.seconds:.1f}",
        }

    def whole(self) -> str:
        """The cost of a whole population, in words."""
        parts = {
            "evaluations": self.forward,
            "vjps": self.backward,
            "of the classifier": self.calls,
        }
        return ", ".join(f"{_count(cost)} {what}" for what, cost in parts.items() if cost)


@dataclass(frozen=True)
class Results:
    """The numbers of a run.

    Args:
        scores: Of each rule, by its name, and of the reference.
        samples: Of each rule.
        reference: Draws from the conditional law.
        features: In what samples are compared.
        judge: Name of the classifier.
        judged: Rules that were guided by the classifier that judges them.
        memory: Peak of the process (or of the GPU), in MiB.
    """

    scores: dict[str, Scores]
    samples: int
    reference: int
    features: str
    judge: str | None
    judged: list[str]
    memory: float

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Results":
        """From `run.json`."""
        scores = {name: Scores(**numbers) for name, numbers in record["scores"].items()}
        return cls(**{**record, "scores": scores})

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heads and rows: what and how much for one rule, a row each for several."""
        entries = {name: scores.entries() for name, scores in self.scores.items()}
        first = next(iter(entries.values()))
        known = [what for what in first if any(row[what] for row in entries.values())]
        if len(entries) == 1:
            return [], [[what, first[what]] for what in known]
        return ["rule", *known], [
            [name, *(row[what] for what in known)] for name, row in entries.items()
        ]

    def legend(self) -> list[str]:
        """What the numbers mean, in sentences."""
        lines = []
        if self.judge is not None:
            lines.append(
                f"agreement: share of the samples that the classifier {self.judge!r} takes for the label."
            )
        if self.judged:
            names = ", ".join(self.judged)
            lines.append(f"The same classifier guided {names}, whose agreement it flatters.")
        if self.reference:
            lines.append(
                f"precision, recall ({NEIGHBOURS} neighbours), coverage ({COVERED}) and Vendi (bandwidth) are "
                f"relative to {self.reference} draws from the conditional law (weight 1), in {self.features}."
            )
        if self.reference and min(self.reference, self.samples) < MANY:
            lines.append(f"They are rough for so few; give --n {MANY} or more.")
        lines.append(
            f"distance: mean between two samples, in {self.features}. "
            "clipped: share of the values at -1, 1 or beyond."
        )
        lines += self._of_cost()
        return lines

    def _of_cost(self) -> list[str]:
        lines = [f"Costs are per sample. {CONVENTION}. Peak memory {self.memory:.0f} MiB."]
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


def _count(value: float) -> str:
    return f"{round(value, 1):g}" if value else ""


def levels_in_words(sampler: Sampler[Any]) -> str:
    """The noise levels that a sampler visits."""
    moves = sampler.moves()
    levels = [sigma for move in moves for sigma in move if sigma > 0]
    return f"{max(levels):.3g} to {min(levels):.3g} in {len(moves)} steps"


def score(
    x: Tensor, reference: Tensor | None, label: int, judge: CleanClassifier | None
) -> dict[str, float | None]:
    """Fidelity and diversity of pictures.

    Args:
        x: Pictures, `[n, channels, height, width]`.
        reference: Draws from the conditional law, `[m, channels, height, width]`.
        label: What they should show.
        judge: Says what they show, and gives the features in which they are compared; None compares pixels.
    """
    features: Features = Flat() if judge is None else Penultimate(judge)
    here, n = features(x), len(x)
    many = reference is not None and min(n, len(reference)) > COVERED
    pictured = saturation(x)
    found: dict[str, float | None] = {
        "agreement": None if judge is None else classifier_agreement(judge, x, label),
        "distance": mean_pairwise_distance(here) if n > 1 else None,
        "clipped": pictured.clipped,
        "colour": pictured.colour if x.shape[1] == 3 else None,
        **dict.fromkeys(("precision", "recall", "coverage", "vendi")),
    }
    if reference is not None and many:
        there = features(reference)
        found["precision"], found["recall"] = precision_recall(here, there, NEIGHBOURS)
        found["coverage"] = density_coverage(here, there, COVERED).coverage
        width = mean_pairwise_distance(there)
        found["vendi"] = vendi(here, RBF(width)) if 0 < width < math.inf else None
    return found


def summarise(
    job: "Job", samples: Mapping[str, Tensor], cost: Mapping[str, Cost], store: Store
) -> Results:
    """Compute the results and write arrays, pictures and report.

    Args:
        job: What was done.
        samples: `[n, channels, height, width]` of each rule and of the reference.
        cost: What they cost.
        store: Where to write.
    """
    plan, device = job.plan, torch.device(job.space.device)
    reference = samples.get(REFERENCE)
    there = None if reference is None else reference.to(device)
    scores = {}
    for name, x in samples.items():
        compared = None if name == REFERENCE else there
        numbers: dict[str, Any] = score(x.to(device), compared, plan.label, job.judge)
        spent = asdict(cost[name])
        spent["calls"] = spent.pop("operator")
        sampler = job.methods[name].sampler
        scores[name] = Scores(
            **numbers, **spent, shared=sampler.shared, levels=levels_in_words(sampler)
        )
    results = Results(
        scores=scores,
        samples=plan.samples,
        reference=plan.reference,
        features="pixels" if job.judge is None else "features of that classifier",
        judge=plan.judge,
        judged=job.judged,
        memory=peak_memory(device),
    )
    one = len(plan.rules) == 1
    arrays = {
        ("samples" if one and name != REFERENCE else name): x.numpy()
        for name, x in samples.items()
    }
    arrays["seeds"] = np.array(plan.seeds)
    store.write_arrays("samples.npz", arrays)
    pictures = _pictures(samples, plan.rules, plan.seeds)
    for name, (content, _) in pictures.items():
        store.write(name, content)
    store.write("report.html", write_report(plan, results, pictures).encode())
    return results


def _pictures(
    samples: Mapping[str, Tensor], rules: Sequence[str], seeds: range
) -> dict[str, tuple[bytes, str]]:
    """Files and their captions, in the order in which a report shows them."""
    several, shown = len(rules) > 1, {}
    if several:
        across = min(ACROSS, len(seeds))
        caption = f"each rule on the seeds {seeds[0]} to {seeds[across - 1]}"
        rows = {name: x[:across] for name, x in samples.items() if name in rules}
        shown["compare.png"] = (png(side_by_side(rows)), caption)
    for name, x in samples.items():
        single = not several and name in rules
        large = max(1, round(112 / x.shape[-1]))
        sheet = grid([to_bytes(picture) for picture in x[:SHOWN]], columns=8)
        caption = f"{min(len(x), SHOWN)} samples, {name}"
        shown["samples.png" if single else f"samples-{name}.png"] = (png(sheet, large), caption)
    return shown


def side_by_side(rows: Mapping[str, Tensor]) -> np.ndarray:
    """Pictures `[n, channels, height, width]` in rows, each with its name in front, on white."""
    first = next(iter(rows.values()))
    large = max(1, round(56 / first.shape[-1]))
    font = ImageFont.load_default()
    strips = {}
    for name, x in rows.items():
        strip = Image.fromarray(grid([to_bytes(picture) for picture in x], columns=len(x)))
        size = (strip.width * large, strip.height * large)
        strips[name] = strip.resize(size, Image.Resampling.NEAREST)
    margin = 12 + max(round(font.getlength(name)) for name in strips)
    strip = next(iter(strips.values()))
    sheet = Image.new(
        strip.mode, (margin + strip.width, len(strips) * (strip.height + 4) - 4), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for i, (name, strip) in enumerate(strips.items()):
        top = i * (strip.height + 4)
        draw.text((6, top + strip.height // 2 - 6), name, fill="black", font=font)
        sheet.paste(strip, (margin, top))
    return np.asarray(sheet)
