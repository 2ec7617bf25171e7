"""The signal-to-distortion ratio against its definition."""

import pytest
import torch

import posteria as po
from helpers import normal
from posteria.metrics import METRICS, si_sdr, si_sdr_improvement


def by_hand(x: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    target = (x @ truth) / (truth @ truth) * truth
    return 10 * torch.log10(target.square().sum() / (x - target).square().sum())


def test_the_ratio_is_that_of_its_definition() -> None:
    # Catches: a scale that counts, a silent stem that counts, a mixture that is a mean.
    truth, x = normal(4, 200, seed=1), normal(3, 4, 200, seed=2)
    truth[2] = 0
    heard = [0, 1, 3]
    want = torch.stack([torch.stack([by_hand(s[c], truth[c]) for c in heard]).mean() for s in x])
    assert torch.allclose(si_sdr(x, truth), want)
    assert torch.allclose(si_sdr(-0.3 * x, truth), want)
    mixture = torch.stack([by_hand(truth.sum(0), truth[c]) for c in heard]).mean()
    assert torch.allclose(si_sdr_improvement(x, truth), want - mixture)
    assert METRICS["si_sdr"].modalities == ("audio",)


def test_what_is_not_compared() -> None:
    with pytest.raises(po.ShapeError, match="go with a truth"):
        si_sdr(normal(2, 3, 10), normal(4, 10))
    with pytest.raises(po.InputError, match="silent truth"):
        si_sdr(normal(2, 3, 10), torch.zeros(3, 10))
    with pytest.raises(po.InputError, match="truth holds finite numbers"):
        si_sdr(normal(2, 3, 10), torch.full((3, 10), torch.nan))
    with pytest.raises(po.InputError, match="at least 1 sample"):
        si_sdr(normal(0, 3, 10), normal(3, 10))
