"""Pictures, their degradations, and the posteriors that follow."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

import posteria as po
from posteria.core.rng import Rng
from posteria.modalities import MODALITIES

# Kinds of degradation by a short name each: the task of `posteria restore`, and its options.
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "box": ("inpaint", {"mask": "box"}),
    "half": ("inpaint", {"mask": "half"}),
    "expand": ("inpaint", {"mask": "expand"}),
    "random": ("inpaint", {"mask": "random"}),
    "sr4": ("sr", {"factor": 4}),
    "blur": ("blur", {"blur": 1.5}),
    "motion": ("blur", {"kernel": "shake", "blur": 1.5}),
    "nonlinear": ("nonlinear-blur", {"kernel": "shake", "blur": 1.5}),
    "jpeg": ("jpeg", {"quality": 10}),
    "hdr": ("clip", {"gain": 2.0}),
    "phase": ("phase", {}),
}
# Standard deviations of the noise, where pictures are in [-1, 1].
NOISE = (0.05, 0.01)
# The stream of the measurements' noise; samplers use stream 0.
MEASURED = 1


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures that a prior was not trained on, and how they are measured.

    Args:
        prior: See `load_prior`.
        task: In `TASKS`.
        std: Of the noise.
        truths: `[n, channels, height, width]` in [-1, 1].
        others: Further pictures, whose distance to the truths is the floor of a distance; may be none.
        seed: Draws the noise, and with it the seeds of the samples.
        few: Pictures whose posterior is drawn several times.
        batch: Samples at a time.
        device: Where the prior lives.
    """

    prior: str
    task: str
    std: float
    truths: Tensor
    others: Tensor
    seed: int
    few: int = 2
    batch: int = 64
    device: str = "cpu"


def given(
    dataset: Any, prior: str, truths: Tensor, others: Tensor | None = None, batch: int = 64
) -> dict[str, Any]:
    """What a dataset of benchopt gives: pictures, and how its parameters say that they are measured."""
    pictures = Pictures(
        prior=prior,
        task=dataset.task,
        std=dataset.std,
        truths=truths,
        others=truths[:0] if others is None else others,
        seed=dataset.get_seed(use_dataset=True, use_repetition=True),
        few=dataset.few,
        batch=batch,
        device=dataset.device,
    )
    return {"pictures": pictures}


def missing(why: str) -> dict[str, Any]:
    """What a dataset gives that is not on this machine."""
    return {"pictures": None, "reason": why}


# Priors, loaded once in a process.
load = lru_cache(maxsize=2)(po.load_prior)


def restoration(pictures: Pictures, draws: int) -> tuple[po.Posterior, list[int]]:
    """A target with a row of `y` for each sample, and the picture of each row.

    Every picture has one measurement. The posteriors of `few` of them come `draws` times more.
    """
    prior, truths = load(pictures.prior, device=pictures.device), pictures.truths
    kind, options = TASKS[pictures.task]
    operator = MODALITIES["image"].degradation(kind, tuple(truths.shape[1:]), options).operator
    likelihood = po.GaussianLikelihood(operator, std=pictures.std)
    seeds = [(pictures.seed + i) % 2**32 for i in range(len(truths))]
    y = likelihood.sample(truths, Rng(seeds, stream=MEASURED))
    rows = [*range(len(truths)), *few_of(pictures) * draws]
    return po.Posterior(prior, likelihood, y[torch.tensor(rows)]), rows


def few_of(pictures: Pictures) -> list[int]:
    """The pictures whose posterior is drawn several times, spread over all."""
    count = min(pictures.few, len(pictures.truths))
    return [i * len(pictures.truths) // count for i in range(count)]
