"""Samplers that end at the lowest level of their schedule, and measurements of less noise."""

import pytest
import torch

import posteria as po
from helpers import F64
from posteria.samplers import POSTERIOR_SAMPLERS as KINDS, at_budget
from posteria.samplers.choose import suited


@pytest.mark.parametrize("name", ["fps", "mcgdiff", "mmps", "pigdm", "tmpd"])
def test_levels_end_below_the_noise_of_the_measurement(name: str) -> None:
    # Catches: entries that are copied from y: default levels end at 0.01 and 0.002, and samples had no spread (FPS)
    # or half of it (MMPS) without a word.
    prior = po.Gaussian(torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64))
    law = po.GaussianLikelihood(po.operators.Inpainting([1, 0, 1]), 1e-3)
    target = po.Posterior(prior, law, torch.tensor([2.0, 0.3], dtype=F64))
    with pytest.warns(RuntimeWarning, match=r"noise of 0.001 .* sigma_min=0.00025"):
        next(iter(KINDS[name]().iterate(target, 2)))
    if name in {"mmps", "pigdm", "tmpd"}:
        with pytest.warns(RuntimeWarning, match="the levels of Guided end at 0.002"):
            next(iter(po.Guided(rule=KINDS[name]().as_rule()).iterate(target, 2)))
    x = at_budget(suited(name, target), target, 400).sample(target, 256)
    assert x[:, [0, 2]].std(0).mul(1e3).sub(1).abs().max() < 0.2
