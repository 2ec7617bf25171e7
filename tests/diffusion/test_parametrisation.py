"""Settings of parametrisations and networks that make another denoiser than the one that is meant, and are refused."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import posteria as po
from posteria.diffusion import misfits

GAUSSIAN = po.Gaussian(torch.zeros(3), torch.eye(3))
SPACE, READING = po.Space((3,)), po.diffusion.EDM()


def made(space: Any = SPACE, reading: Any = READING, **labels: Any) -> po.Network:
    return po.Network(lambda x, *_: x, space, reading, **labels)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: po.diffusion.EDM(sigma_data=0.0), "sigma_data of EDM is above 0; 0.0 is not"),
        (lambda: po.diffusion.EDM(sign=2), "sign of EDM is 1 or -1"),  # type: ignore[arg-type]
        (lambda: po.diffusion.FlowMatching(0.0), "time_scale of FlowMatching is above 0"),
        (lambda: po.diffusion.Epsilon(shift=0.5), "shift of Epsilon is an integer"),  # type: ignore[arg-type]
        (lambda: po.diffusion.Epsilon((0.1,)), r"Epsilon needs a Betas.* is GivenBetas\("),  # type: ignore[arg-type]
        (lambda: po.schedules.LinearBetas(size=1), "two steps at least"),
        (lambda: po.schedules.GivenBetas((1e-4, 1e-30, 0.1)), "more noise after each"),
        (lambda: po.diffusion.Units(GAUSSIAN, 0.0, math.inf), "finite numbers and go up"),
        (lambda: po.diffusion.Units(GAUSSIAN, "0", 1.0), "finite numbers and go up"),  # type: ignore[arg-type]
        (lambda: po.diffusion.Family(None, {"1": GAUSSIAN}), "A label is an integer"),  # type: ignore[dict-item]
        (lambda: po.diffusion.Family(None, {1: torch.nn.Identity()}), "Family needs a Denoiser"),  # type: ignore[dict-item]
        (
            lambda: misfits(GAUSSIAN, torch.zeros(2, 3, dtype=torch.uint8)),
            "of floating point in the units of the prior; these are of torch.uint8",
        ),
        (lambda: po.Label(2.7), "A label is an integer .*; 2.7 is not"),  # type: ignore[arg-type]
        (lambda: made(labels=1.5), "number of labels is an integer"),
        (lambda: made(labels=3, null_label=-1), "null label is an integer"),
        (lambda: made(null_label=3), "null label is one of a network that knows labels"),
        (lambda: made(reading=po.diffusion.EDM), "needs a Parametrisation; this is the class EDM"),
        (lambda: made(space=(3,)), "needs a Space; this is a tuple"),
    ],
)
def test_settings_that_make_another_denoiser(make: Callable[[], object], words: str) -> None:
    # Catches: nan between two levels of a table that are one, bytes that a check of a prior takes for its data,
    # D = 0 of data without spread, a time that is always 0, a label without its fraction, one that is dropped.
    with pytest.raises(po.PosteriaError, match=words):
        make()


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_an_output_of_other_numbers(dtype: torch.dtype) -> None:
    # Catches: rounded estimates, and an imaginary part that is dropped.
    network = po.Network(lambda x, t: x.to(dtype), SPACE, po.diffusion.Denoised())
    with pytest.raises(po.CapabilityError, match=f"returned numbers of {dtype}"):
        network(torch.ones(1, *SPACE.shape), 1.0)


def test_a_table_of_any_kind_of_numbers() -> None:
    # Catches: a list or a tensor that is not a setting, and fails at the first level.
    for betas in ([0.1, 0.2], torch.tensor([0.1, 0.2], dtype=torch.float64)):
        table = po.schedules.GivenBetas(betas)  # type: ignore[arg-type]
        assert table == po.schedules.GivenBetas((0.1, 0.2))
        assert po.diffusion.Epsilon(table).time(0.0) < 1e-12


def test_keys_of_a_family_are_numbers_of_any_kind() -> None:
    # Catches: a member under a number of NumPy that no label finds.
    family = po.diffusion.Family(None, {np.int64(1): GAUSSIAN})  # type: ignore[dict-item]
    assert family.given(po.Label(1)) is GAUSSIAN


def test_a_bare_number_is_a_label() -> None:
    # Catches: labels as they come out of a data set, tensors without axes, and numbers refused where a family takes
    # them for its keys.
    family = po.diffusion.Family(GAUSSIAN, {1: GAUSSIAN})
    network = made(labels=3, null_label=2)
    for one in (1, np.int64(1), np.array(1), torch.tensor(1)):
        assert po.Label(one) == po.Label(1)
        assert family.given(one) is GAUSSIAN
        assert network.given(one) is network.given(po.Label(1))
        assert po.Tilted(family, one, 2.0).condition == po.Label(1)
    for wrong in (torch.tensor(1.5), torch.tensor(True), torch.tensor([1])):
        with pytest.raises(po.PosteriaError, match="label is an integer"):
            po.Label(wrong)
    with pytest.raises(po.CapabilityError, match="Tilted needs a Condition; this is a str"):
        po.Tilted(family, "cat", 2.0)
