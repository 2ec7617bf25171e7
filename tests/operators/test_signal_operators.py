"""Operators on signals in time, against their dense matrices and against a computation of their own, in float64."""

import pytest
import torch
from scipy import signal as scipy_signal

import posteria as po
from helpers import F64, normal
from posteria.operators import (
    ChannelSum,
    CircularBlur,
    Clip,
    ColorMixing,
    Convolution,
    Decimation,
    Inpainting,
    LinearOperator,
    STFTMask,
    SVDOperator,
)
from posteria.testing import check_operator

SEEN = torch.arange(24) % 7 > 1
ROOM = torch.tensor([1.0, 0.0, 0.5, 0.3, 0.0, -0.2], dtype=F64)
CELLS = normal(*STFTMask.cells(24, 8), seed=3) > 0
SUM = ChannelSum((4, 24))
OPERATORS: dict[str, LinearOperator] = {
    "sum": SUM,
    "even to even": Decimation(10, (2, 24)),
    "even to odd": Decimation(7, (1, 24)),
    "odd to even": Decimation(6, (3, 23)),
    "odd to odd": Decimation(9, (23,)),
    "all of it": Decimation(24, (1, 24)),
    "one number": Decimation(1, (1, 24)),
    "room": Convolution(ROOM, (2, 24)),
    "room longer than the song": Convolution(normal(40), (1, 24)),
    "cells": STFTMask(CELLS, (2, 24), 8),
    "all cells": STFTMask(torch.ones_like(CELLS), (1, 24), 8),
    "sum, decimated": Decimation(9, (1, 24)) @ SUM,
    "sum with gaps": Inpainting(SEEN, (1, 24)) @ SUM,
    "sum, decimated, with gaps": Inpainting(SEEN[:9], (1, 9)) @ Decimation(9, (1, 24)) @ SUM,
    "sum in a room": Convolution(ROOM, (1, 24)) @ SUM,
    "cells of the sum": STFTMask(CELLS, (1, 24), 8) @ SUM,
    "stereo with gaps": Inpainting(SEEN, (2, 24))
    @ ColorMixing(torch.tensor([[1.0, 2.0], [-2.0, 1.0]], dtype=F64), (2, 24)),
    "grey, blurred round the edges": CircularBlur(normal(3, 3), (1, 4, 6))
    @ ColorMixing(torch.tensor([[0.3, 0.6, 0.1]], dtype=F64), (3, 4, 6)),
}
BY_ITERATIONS = {
    name for name in OPERATORS if "room" in name or "cells" in name or "ed, with" in name
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_on_signals_are_those_of_their_matrices(name: str) -> None:
    # Catches: channels that are mixed, coefficients of the two sides that do not belong together, a mean of several
    # channels in place of their sum, a solve that forgets the gain of the sum.
    operator = OPERATORS[name].to(F64, "cpu")
    check_operator(operator)
    a = operator.matrix()
    m, n = a.shape
    assert isinstance(operator, SVDOperator) == operator.exact == (name not in BY_ITERATIONS)
    if isinstance(operator, SVDOperator):
        s = torch.linalg.svdvals(a)
        found = operator.singular_values.sort(descending=True)[0]
        assert torch.allclose(found[: len(s)], s[: len(found)], atol=1e-12)
    x, y = normal(3, *operator.domain.shape), normal(3, *operator.codomain.shape)
    flat, seen = x.flatten(1), y.flatten(1)
    innovation = torch.linalg.inv(0.3 * torch.eye(m, dtype=F64) + 2 * a @ a.mT)
    normal_ = torch.linalg.inv(0.3 * torch.eye(n, dtype=F64) + a.mT @ a)
    bound = 1e-10 if operator.exact else 30 * operator.tolerance
    error = operator.innovation_solve(y, 0.3, 2.0).flatten(1) - seen @ innovation
    assert error.norm() < bound * seen.norm()
    assert (operator.normal_solve(x, 0.3).flatten(1) - flat @ normal_).norm() < bound * flat.norm()
    if operator.exact:
        pinv = torch.linalg.pinv(a, rtol=1e-12)
        assert torch.allclose(operator.pinv(y).flatten(1), seen @ pinv.mT, atol=1e-10)
    # One sample of a batch is the sample alone.
    assert torch.allclose(operator.adjoint(y)[:1], operator.adjoint(y[:1]), atol=1e-14)


def test_a_decimated_tone_is_the_tone() -> None:
    # Catches: an amplitude or a phase that changes with the length; a tone above the limit that folds back.
    t = torch.arange(60, dtype=F64) / 60
    low, high = (torch.cos(2 * torch.pi * (k * t + 0.1)) for k in (5, 17))
    got = Decimation(25, (1, 60)).to(F64, "cpu")((low + high)[None])
    u = torch.arange(25, dtype=F64) / 25
    assert torch.allclose(got[0], torch.cos(2 * torch.pi * (5 * u + 0.1)), atol=1e-12)
    # White noise stays white, and solves are divisions: A A^T is a multiple of the identity.
    a = Decimation(24, (1, 60)).to(F64, "cpu").matrix()
    assert torch.allclose(a @ a.mT, 24 / 60 * torch.eye(24, dtype=F64), atol=1e-12)


def test_a_room_is_a_convolution_from_silence() -> None:
    # Catches: an end that comes back at the beginning, an impulse response that is centred or mirrored.
    x = normal(2, 24)
    want = scipy_signal.lfilter(ROOM.numpy(), [1.0], x.numpy())
    assert torch.allclose(Convolution(ROOM, (2, 24)).to(F64, "cpu")(x), torch.from_numpy(want))


def test_cells_are_those_of_a_transform_that_keeps_lengths() -> None:
    # Catches: windows that do not add up at the ends, real parts that count half, frequencies and frames turned round.
    whole = STFTMask(torch.ones(*STFTMask.cells(50, 16)), (2, 50), 16).to(F64, "cpu")
    x = normal(3, 2, 50)
    assert torch.allclose(whole.adjoint(whole(x)), x, atol=1e-12)
    mask = torch.zeros(*STFTMask.cells(50, 16))
    mask[5, 6] = 1
    one = STFTMask(mask, (1, 50), 16).to(F64, "cpu")
    window = scipy_signal.get_window("hann", 16)
    # The seventh window begins 3 * 4 samples before the beginning and has gone on by 6 * 4 since.
    part = x[0, :1, 12:28].numpy() * window * 1.5**-0.5
    cell = (part * torch.exp(-2j * torch.pi * 5 / 16 * torch.arange(16)).numpy()).sum() / 4
    assert torch.allclose(one(x[0, :1])[0], torch.tensor([cell.real, cell.imag]) * 2**0.5)


def test_a_solve_after_a_sum_is_counted() -> None:
    # Catches: applications of the outer operator that no cost knows of.
    operator = (Convolution(ROOM, (1, 24)) @ SUM).to(F64, "cpu")
    before = operator.calls
    operator.innovation_solve(normal(2, 1, 24), 0.1, 1.0)
    assert operator.calls > before + 2


def test_what_signals_are_not() -> None:
    for make, words in (
        (lambda: Decimation(25, (1, 24)), "no 25 lowest"),
        (lambda: Decimation(0, (1, 24)), "no 0 lowest"),
        (lambda: Convolution(torch.zeros(3), (1, 24)), "not all 0"),
        (lambda: Convolution(torch.tensor([1.0, torch.nan]), (1, 24)), "finite"),
        (lambda: Convolution(torch.eye(30)[25], (1, 24)), "begins within the time of the signal"),
        (lambda: STFTMask(torch.zeros(5, 15), (1, 24), 8), "no cell"),
        (lambda: STFTMask(CELLS, (1, 24), 6), "multiple of 4"),
        (lambda: Clip((1, 24), 1.0, 0.0), "level of a clipping"),
    ):
        with pytest.raises(po.InputError, match=words):
            make()
    with pytest.raises(po.ShapeError, match=r"cells of shape \(5, 15\)"):
        STFTMask(torch.ones(4, 15), (1, 24), 8)
    with pytest.raises(po.ShapeError, match="one axis"):
        Convolution(torch.ones(3, 3), (1, 24))


def test_clipping_keeps_its_level() -> None:
    # Catches: a clipped song that comes out as loud as full scale.
    x = torch.tensor([[-2.0, -0.3, 0.1, 0.4]])
    assert torch.equal(Clip((1, 4), 1.0, 0.25)(x), torch.tensor([[-0.25, -0.25, 0.1, 0.25]]))
    check_operator(Clip((1, 4), 2.0, 0.25))


def test_a_number_is_no_signal() -> None:
    # Catches: an IndexError of the axis of time.
    for make in (
        lambda: po.operators.Convolution(torch.ones(2), ()),
        lambda: po.operators.STFTMask(torch.ones(2, 2), ()),
        lambda: po.operators.Decimation(1, ()),
    ):
        with pytest.raises(po.ShapeError, match="a number has no time"):
            make()
