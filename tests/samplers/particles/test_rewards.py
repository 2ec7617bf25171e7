"""Rewards of particles, whatever computes them."""

import pytest
import torch

import posteria as po
from helpers import mixture
from posteria.samplers.particles.fk import FK, rewarded


def test_a_reward_may_leave_pytorch() -> None:
    # Catches: an error from inside PyTorch for NumPy's numbers, an imaginary part that is dropped.
    sampler, prior = FK(particles=16).with_steps(10), mixture()
    drawn = [
        sampler.sample(rewarded(prior, reward), range(4))
        for reward in (lambda x: x[:, 0], lambda x: x[:, 0].numpy())
    ]
    assert torch.equal(*drawn)
    with pytest.raises(po.InputError, match=r"A log-density holds torch\.complex128 values"):
        sampler.sample(rewarded(prior, lambda x: x[:, 0] * (1 + 0j)), [0])
    with pytest.raises(po.ShapeError, match="one number for each signal"):
        sampler.sample(rewarded(prior, lambda x: 1.0), [0])  # type: ignore[arg-type,return-value]
