"""Decompositions and solves against the dense matrix of the operator, in float64."""

import pickle
from types import SimpleNamespace

import pytest
import torch
from scipy import ndimage
from torch import Tensor

import posteria as po
from helpers import F64, normal
from posteria.linear_gaussian import spectral
from posteria.operators import (
    Blur,
    CircularBlur,
    ColorMixing,
    Inpainting,
    LinearOperator,
    SuperResolution,
    SVDOperator,
    gaussian_kernel,
    motion_kernel,
)
from posteria.operators.convolution import SeparableBlur
from posteria.operators.separable import Separable


def lopsided(height: int, width: int) -> Tensor:
    """A kernel that is a product of two lines without any symmetry."""
    return torch.outer(normal(height, seed=8), normal(width, seed=9))


GREY = torch.tensor([[0.3, 0.6, 0.1]], dtype=F64)
EXACT: dict[str, LinearOperator] = {
    **{
        f"blur, {how}": Blur(lopsided(5, 3), (2, 9, 6), how)
        for how in ("reflect", "replicate", "zeros")
    },
    "blur, kernel as large as the picture": Blur(lopsided(7, 5), (1, 8, 5)),
    "blur, kernel of one row": Blur(lopsided(1, 5), (2, 3, 7), "zeros"),
    "blur, Gaussian": Blur(gaussian_kernel(5, 1.2), (1, 7, 8)),
    "blur, then blocks": SuperResolution(3, (2, 9, 6)) @ Blur(lopsided(5, 3), (2, 9, 6), "zeros"),
    "grey, then blur": Blur(lopsided(3, 3), (1, 4, 5)) @ ColorMixing(GREY, (3, 4, 5)),
    "blocks": SuperResolution(3, (2, 9, 6)),
    "blocks of blocks": SuperResolution(2, (1, 4, 6)) @ SuperResolution(2, (1, 8, 12)),
    "sum of stems": ColorMixing(torch.ones(1, 4, dtype=F64), (4, 2, 5)),
    "wide and tall": Separable({0: normal(2, 3), -1: normal(7, 4)}, (3, 2, 4)),
    "one axis": Separable({0: normal(3, 5)}, (5,)),
}


def dense(operator: LinearOperator) -> tuple[LinearOperator, Tensor]:
    operator = operator.to(F64, "cpu")
    return operator, operator.matrix()


@pytest.mark.parametrize("name", EXACT)
def test_decompositions_are_those_of_the_matrix(name: str) -> None:
    # Catches: coefficients of the two sides that do not belong together, a factor on another axis, a kernel that
    # is turned round, null spaces that are left out.
    operator, a = dense(EXACT[name])
    assert isinstance(operator, SVDOperator) and operator.solves == "exactly, by a decomposition"
    m, n = a.shape
    u, v = operator.u(torch.eye(m, dtype=F64)), operator.v(torch.eye(n, dtype=F64))
    u, v = u.reshape(m, m).mT, v.reshape(n, n).mT
    s = operator.singular_values
    middle = torch.zeros(m, n, dtype=F64)
    middle[range(len(s)), range(len(s))] = s
    close = {"rtol": 0, "atol": 1e-12 * max(1, float(s.max()))}
    torch.testing.assert_close(u @ middle @ v.mT, a, **close)
    torch.testing.assert_close(u.mT @ u, torch.eye(m, dtype=F64), **close)
    torch.testing.assert_close(v.mT @ v, torch.eye(n, dtype=F64), **close)
    assert torch.allclose(
        s.sort(descending=True)[0], torch.linalg.svdvals(a)[: len(s)], atol=1e-12
    )
    x, y = normal(2, 3, *operator.domain.shape), normal(2, 3, *operator.codomain.shape)
    flat, seen = x.reshape(2, 3, n), y.reshape(2, 3, m)
    torch.testing.assert_close(operator(x).reshape(2, 3, m), flat @ a.mT, **close)
    torch.testing.assert_close(operator.adjoint(y).reshape(2, 3, n), seen @ a, **close)
    torch.testing.assert_close(operator.vt(x), flat @ v, **close)
    torch.testing.assert_close(operator.ut(y), seen @ u, **close)
    inverse = torch.linalg.inv(a.mT @ a + 0.1 * torch.eye(n, dtype=F64))
    assert torch.allclose(
        operator.normal_solve(x, 0.1).reshape(2, 3, n), flat @ inverse, atol=1e-10
    )
    pinv = torch.linalg.pinv(a, rtol=1e-12)
    assert torch.allclose(operator.pinv(y).reshape(2, 3, n), seen @ pinv.mT, rtol=1e-6, atol=1e-8)


MOTION = motion_kernel(5, seed=1)
SOLVED: dict[str, LinearOperator] = EXACT | {
    **{
        f"motion, {how}": Blur(MOTION, (2, 9, 6), how) for how in ("reflect", "replicate", "zeros")
    },
    "motion, kernel as large as the picture": Blur(motion_kernel(7, seed=2), (1, 7, 8)),
    "motion, then blocks": SuperResolution(2, (2, 6, 10)) @ CircularBlur(MOTION, (2, 6, 10)),
    "blur, then a mask": Inpainting(normal(2, 9, 6) > 0) @ Blur(lopsided(5, 3), (2, 9, 6)),
    "motion, then a mask": Inpainting(normal(2, 9, 6) > 0) @ Blur(MOTION, (2, 9, 6)),
}


@pytest.mark.parametrize("name", SOLVED)
@pytest.mark.parametrize("several", [False, True])
def test_innovations_are_those_of_the_matrix(name: str, several: bool) -> None:
    # Catches: an adjoint that is not that of the padding; noise and signal the wrong way round; a preconditioner that
    # is not symmetric, at which conjugate gradients end somewhere else.
    operator, a = dense(SOLVED[name])
    noise = 0.1 + normal(*operator.codomain.shape).square() if several else 0.3
    y = normal(2, 3, *operator.codomain.shape)
    flat = y.reshape(2, 3, len(a))
    levels = torch.as_tensor(noise, dtype=F64).expand(operator.codomain.shape).flatten()
    expected = flat @ torch.linalg.inv(levels.diag() + 2 * a @ a.mT)
    error = (operator.innovation_solve(y, noise, 2.0).reshape(2, 3, -1) - expected).norm(dim=-1)
    exact = operator.exact and not several
    assert (error / flat.norm(dim=-1)).max() < (1e-10 if exact else 30 * operator.tolerance)
    assert torch.allclose(operator.adjoint(y).reshape(2, 3, -1), flat @ a, atol=1e-10)
    x = normal(2, 3, *operator.domain.shape)
    inverse = torch.linalg.inv(a.mT @ a + 0.3 * torch.eye(a.shape[1], dtype=F64))
    signal = operator.normal_solve(x, 0.3).reshape(2, 3, -1)
    assert (signal - x.reshape(2, 3, -1) @ inverse).norm() < 30 * operator.tolerance * x.norm()
    assert torch.equal(operator(operator.adjoint(y)[:1]), operator(operator.adjoint(y))[:1])


def test_blocks_of_a_circular_blur_have_a_pseudo_inverse() -> None:
    operator, a = dense(SOLVED["motion, then blocks"])
    y = normal(3, *operator.codomain.shape)
    expected = y.flatten(1) @ torch.linalg.pinv(a, rtol=1e-12).mT
    assert torch.allclose(operator.pinv(y).flatten(1), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "how", [("reflect", "mirror"), ("replicate", "nearest"), ("zeros", "constant")]
)
def test_a_separable_blur_is_a_convolution(how: tuple[str, str]) -> None:
    # Catches: the two lines swapped or turned round.
    kernel, x = lopsided(7, 5), normal(12, 9)
    expected = ndimage.convolve(x.numpy(), kernel.numpy(), mode=how[1])
    operator = Blur(kernel, (1, 12, 9), how[0])  # type: ignore[arg-type]
    assert isinstance(operator, SeparableBlur)
    assert torch.allclose(operator(x[None])[0], torch.from_numpy(expected), atol=1e-12)


def test_a_kernel_is_separable_within_the_rounding_of_its_dtype() -> None:
    # Catches: a tolerance so loose that a kernel is replaced by another, or so tight that a Gaussian that was saved in
    # single precision is solved by iterations.
    kernel, shape = gaussian_kernel(9, 1.5), (1, 12, 12)
    assert isinstance(Blur(kernel, shape), SeparableBlur)
    assert isinstance(Blur(kernel.float(), shape), SeparableBlur)
    assert isinstance(Blur(kernel=kernel, shape=shape), SeparableBlur)
    near = kernel.clone()
    near[0, 1] += 1e-12
    blur = Blur(near, shape)
    assert type(blur) is Blur and "relative residual of 1e-05, in at most 500" in blur.solves
    exact, x = Blur(kernel, shape).to(F64, "cpu"), normal(1, 12, 12)
    assert torch.allclose(blur(x), exact(x), atol=1e-11)


def test_a_blur_stays_as_exact_as_its_kernel() -> None:
    # Catches: a decomposition or an inverse made of factors in single precision.
    operator = Blur(lopsided(5, 3), (1, 9, 6))
    there = operator.to(torch.float32, "cpu")
    assert there(torch.zeros(1, 9, 6)).dtype == torch.float32
    again, x = there.to(F64, "cpu"), normal(1, 9, 6)
    assert torch.equal(again(x), operator.to(F64, "cpu")(x))
    assert torch.equal(there.singular_values.double(), operator.singular_values)
    assert torch.equal(pickle.loads(pickle.dumps(operator))(x), operator(x))


def test_preconditioned_solves_take_few_iterations() -> None:
    # Catches: a preconditioner of another kernel, or none: 400 iterations and more.
    shape = (1, 24, 20)
    for operator, most in (
        (Blur(motion_kernel(7, seed=1), shape), 60),
        (
            Inpainting(po.operators.box_mask(24, 20), shape)
            @ Blur(gaussian_kernel(9, 1.5), shape),
            40,
        ),
    ):
        a, _ = dense(operator)
        a.innovation_solve(a(normal(*shape)) + 0.05 * normal(*a.codomain.shape), 0.05**2, 1.0)
        assert a.calls < 2 * most
    blur = Blur(motion_kernel(7, seed=1), shape).to(F64, "cpu")
    blur.normal_solve(normal(*shape), 0.05**2)
    assert blur.calls < 2 * 90


def test_faint_colours_are_not_taken_for_orthogonal_ones() -> None:
    # Catches: an absolute tolerance, by which the rows of every matrix of small entries are orthogonal and of one
    # length: the solves of what follows are then those of another operator, and are called exact.
    mask = normal(2, 4, 3) > 0
    for mixing in (normal(2, 3), torch.linalg.qr(normal(3, 2)).Q.mT):
        operator, a = dense(Inpainting(mask) @ ColorMixing(1e-5 * mixing, (3, 4, 3)))
        y = normal(2, *operator.codomain.shape)
        expected = y @ torch.linalg.inv(1e-10 * torch.eye(len(a), dtype=F64) + 2 * a @ a.mT)
        assert torch.allclose(operator.innovation_solve(y, 1e-10, 2.0), expected, rtol=1e-4)


def test_single_precision_sees_what_double_sees() -> None:
    # Catches: rounding that is said to grow with all entries of a picture, where sums are as long as its sides: ddrm,
    # ddnm and score_sde drew what is seen with a gain below 0.6 % from the prior, in colours of 128 x 128 pixels.
    shape, kernel = (3, 64, 64), gaussian_kernel(13, 2.0)
    for operator in (CircularBlur(kernel, shape), Blur(kernel, shape)):
        assert isinstance(operator, SVDOperator)
        likelihood = po.GaussianLikelihood(operator, 0.1)
        single, double = (
            spectral(
                SimpleNamespace(likelihood=likelihood, space=po.Space(shape, dtype)),  # type: ignore[arg-type]
                by="a test",
            ).seen
            for dtype in (torch.float32, F64)
        )
        gain = operator.singular_values / operator.singular_values.max()
        assert single[gain > 1e-4].all() and not single[gain < 1e-6].any() and double[single].all()
    blocks = SuperResolution(2, (1, 64, 64)) @ CircularBlur(kernel, (1, 64, 64))
    y = blocks(normal(1, 64, 64).float())
    assert isinstance(blocks, LinearOperator)
    assert (blocks(blocks.pinv(y)) - y).norm() < 3e-3 * y.norm()
