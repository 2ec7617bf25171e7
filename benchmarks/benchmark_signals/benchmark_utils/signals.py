"""ECGs and songs, and what is measured of them: Gaussian laws with known posteriors, and shipped priors."""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

import posteria as po
from lib.stems import gaussian_stems
from posteria.modalities import MODALITIES
from posteria.operators import Operator
from posteria.priors import SHIPPED
from posteria.problems.toy import Problem

# By name: the shipped prior, the task of `posteria restore`, its options, and the noise in data units.
TASKS: dict[str, tuple[str, str, dict[str, Any], float]] = {
    "ecg-I": ("ecg", "leads", {"keep": "I"}, 0.05),
    "ecg-gap": ("ecg", "gap", {"mask": "block"}, 0.05),
    "stems-separate": ("stems", "separate", {}, 0.05),
    "stems-declip": ("stems", "declip", {"level": 0.05}, 0.05),
}
# Priors, loaded once in a process.
load = cache(po.load_prior)
# The stream of the measurement's noise; samplers use stream 0.
MEASURED = 1


def operator_of(task: str, shape: tuple[int, ...], seed: int) -> Operator:
    """What a task measures of signals of a shape; a gap is a quarter of them."""
    prior, kind, options, _ = TASKS[task]
    card = SHIPPED[prior]
    if kind == "gap":
        options = options | {"seconds": shape[1] / 4 / float(card.data.rate or 1)}
    return MODALITIES[card.modality].of(card).degradation(kind, shape, options, seed=seed).operator


def measured(prior: Any, task: str, truth: Tensor, seed: int) -> po.Posterior:
    """The posterior of a task on a signal, whose measurement is drawn by a seed."""
    likelihood = po.GaussianLikelihood(operator_of(task, tuple(truth.shape), seed), TASKS[task][3])
    likelihood = likelihood.to(truth.dtype, "cpu")
    y = likelihood.sample(truth[None], po.Rng([seed % 2**32], stream=MEASURED))[0]
    return po.Posterior(prior, likelihood, y)


def examples(prior: str) -> list[Tensor]:
    """The signals that ship with a prior, `[channels, time]` in its units."""
    card = SHIPPED[prior]
    modality = MODALITIES[card.modality].of(card)
    found = []
    for path in card.examples:
        (length,) = modality.size_of(path, modality.task("gap", ""), {}, True) or (0,)
        found.append(modality.read(path, (card.shape[0], length), taker="it takes").x)
    return found


@cache
def gaussian_ecg(time: int = 24) -> po.Gaussian:
    """The mean and covariance of parts of the shipped ECGs, `[8, time]`, at least 20 uV wide in every direction."""
    parts = [x.double().unfold(1, time, 4).permute(1, 0, 2) for x in examples("ecg")]
    x = torch.cat(parts)
    covariance = torch.cov(x.flatten(1).mT) + 4e-4 * torch.eye(x[0].numel(), dtype=torch.float64)
    return po.Gaussian(x.mean(0), covariance)


def known(task: str, seed: int) -> Problem:
    """A task on a Gaussian law, with its exact posterior."""
    law = gaussian_ecg() if TASKS[task][0] == "ecg" else gaussian_stems()
    truth = law.sample(1, torch.Generator().manual_seed(seed))[0]
    target = measured(law, task, truth, seed)
    exact = law.posterior(target.likelihood, target.y)
    return Problem(target, exact, truth, float(law.log_evidence(target.likelihood, target.y)))


def shipped(task: str, length: int, seed: int) -> Problem:
    """A task on a part of a shipped signal, whose posterior nobody knows."""
    name = TASKS[task][0]
    signals, rng = examples(name), np.random.default_rng(seed)
    x = signals[rng.integers(len(signals))]
    start = int(rng.integers(x.shape[1] - length + 1))
    truth = x[:, start : start + length].contiguous()
    target = measured(load(name, size=length), task, truth, seed)
    unknown: Any = None
    return Problem(target, unknown, truth, math.nan)
