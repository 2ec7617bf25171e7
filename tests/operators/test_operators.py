"""Every operator against the battery, and each against something it did not compute itself."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

import posteria as po
from helpers import F64, normal
from posteria.core.linalg import score
from posteria.core.meter import Meter, Watch
from posteria.operators import (
    JPEG,
    Blur,
    CircularBlur,
    Clip,
    ColorMixing,
    Composed,
    Function,
    Identity,
    Inpainting,
    LinearFunction,
    LinearOperator,
    Matrix,
    NonlinearBlur,
    Operator,
    PhaseRetrieval,
    Quantization,
    SuperResolution,
    box_mask,
    expand_mask,
    gaussian_kernel,
    half_mask,
    motion_kernel,
    random_mask,
)
from posteria.operators.nonlinear import soft_round
from posteria.testing import check_operator

SHAPE = (3, 16, 12)

OPERATORS: list[Operator] = [
    Identity(SHAPE),
    Matrix(normal(4, 6)),
    Matrix(normal(7, 6), (2, 3)),
    Matrix(normal(3, 2) @ normal(2, 5)),
    Inpainting(box_mask(16, 12), SHAPE),
    Inpainting(torch.tensor([True, False, True, True, False])),
    SuperResolution(4, SHAPE),
    SuperResolution(16, (1, 32, 16)),
    SuperResolution(1, SHAPE),
    CircularBlur(gaussian_kernel(5, 1.2), SHAPE),
    CircularBlur(motion_kernel(7, seed=3), SHAPE),
    Blur(gaussian_kernel(5, 0.6), SHAPE),
    Blur(motion_kernel(7, seed=1), SHAPE, "zeros"),
    Blur(gaussian_kernel(3, 1.0), (1, 9, 8), "replicate"),
    ColorMixing(normal(1, 3), SHAPE),
    ColorMixing(normal(5, 3), SHAPE),
    ColorMixing(torch.ones(1, 4, dtype=F64), (4, 20)),
    PhaseRetrieval(SHAPE),
    JPEG(10, SHAPE),
    JPEG(50, (1, 13, 9)),
    # 4:1:1, whose blocks of 8 colours are 32 pixels wide.
    JPEG(50, (3, 7, 35), (1, 4)),
    Clip(SHAPE),
    Quantization(3, SHAPE),
    NonlinearBlur(motion_kernel(7, seed=2), SHAPE),
    Clip(SHAPE) @ Blur(gaussian_kernel(5, 1.2), SHAPE),
    SuperResolution(2, (1, 8, 8)) @ Blur(gaussian_kernel(3, 1.2), (1, 8, 8)),
    Matrix(normal(3, 4)) @ Matrix(normal(4, 6), (2, 3)),
    LinearFunction(lambda x: x.cumsum(-1)[..., ::2], (7,)),
    LinearFunction(lambda x: x.flip(1), (2, 3), adjoint=lambda y: y.flip(1)),
    Function(lambda x: x.sin().sum(-1), (3, 4)),
]


@pytest.mark.parametrize("operator", OPERATORS, ids=repr)
def test_battery(operator: Operator) -> None:
    check_operator(operator)


def test_matrix_free_solves_agree_with_the_decomposition() -> None:
    # Catches: a conjugate gradient that stops early, a shift on the wrong side.
    a = normal(5, 8)
    dense, free = Matrix(a), LinearFunction(lambda x: x @ a.mT, po.Space((8,), F64))
    b, y = normal(3, 8, seed=2), normal(3, 5, seed=3)
    assert torch.allclose(dense.normal_solve(b, 0.1), free.normal_solve(b, 0.1), atol=1e-5)
    assert torch.allclose(dense.pinv(y), free.pinv(y), atol=1e-4)
    assert torch.allclose(dense.pinv(y), y @ torch.linalg.pinv(a).mT)
    assert torch.allclose(free.matrix(), a)


def test_inpainting_lists_what_the_mask_sees() -> None:
    mask = torch.tensor([[1, 0], [0, 1]])
    operator = Inpainting(mask, (3, 2, 2))
    x = torch.arange(12.0).reshape(3, 2, 2)
    assert operator(x).tolist() == [0, 3, 4, 7, 8, 11]
    assert torch.equal(operator.adjoint(operator(x)), x * mask)
    assert torch.equal(operator.mask, mask.bool().expand(3, 2, 2))
    for bad, sentence in (
        (torch.zeros(2, 2), "mask is empty"),
        (torch.full((2, 2), 0.5), "holds other values"),
    ):
        with pytest.raises(po.InputError, match=sentence):
            Inpainting(bad)
    with pytest.raises(
        po.ShapeError, match=r"mask has shape \(3, 3\); the signal has shape \(1, 4, 4\)"
    ):
        Inpainting(torch.ones(3, 3), (1, 4, 4))


def test_a_mask_of_one_channel_is_of_all() -> None:
    # Catches: [1, height, width] that is refused for colours, or another axis of length one that is repeated.
    mask, picture = random_mask(4, 6, 0.5, seed=0), normal(2, 3, 4, 6)
    one = Inpainting(mask[None], (3, 4, 6))
    assert torch.equal(one(picture), Inpainting(mask, (3, 4, 6))(picture))
    for wrong in (mask[None, None], mask.expand(2, 4, 6), mask[None, :, :1]):
        with pytest.raises(po.ShapeError, match="The mask has shape"):
            Inpainting(wrong, (3, 4, 6))


def test_masks_have_the_geometry_of_the_papers() -> None:
    box, square = ~box_mask(256, 256), expand_mask(256, 256)
    assert box.nonzero().amin(0).tolist() == [50, 50] and box.nonzero().amax(0).tolist() == [
        199,
        199,
    ]
    assert square.nonzero().amin(0).tolist() == [89, 89] and square.nonzero().amax(0).tolist() == [
        166,
        166,
    ]
    assert half_mask(4, 6).tolist() == [[True] * 3 + [False] * 3] * 4
    assert random_mask(10, 10, 0.3, seed=0).sum() == 30
    assert torch.equal(random_mask(10, 10, 0.3, seed=4), random_mask(10, 10, 0.3, seed=4))
    assert not torch.equal(random_mask(10, 10, 0.3, seed=4), random_mask(10, 10, 0.3, seed=5))


@pytest.mark.parametrize(
    ("padding", "mode"), [("reflect", "mirror"), ("replicate", "nearest"), ("zeros", "constant")]
)
def test_blur_is_a_convolution(padding: str, mode: str) -> None:
    # Catches: torch's correlation in place of a convolution, visible with a kernel that is not
    # symmetric.
    kernel, x = motion_kernel(7, seed=1), normal(1, 16, 12)
    ours = Blur(kernel, (1, 16, 12), padding)(x)[0]  # type: ignore[arg-type]
    assert np.allclose(ours, ndimage.convolve(x[0].numpy(), kernel.numpy(), mode=mode))
    circular = CircularBlur(kernel, (1, 16, 12))(x)[0]
    assert np.allclose(circular, ndimage.convolve(x[0].numpy(), kernel.numpy(), mode="wrap"))


def picture(channels: int, height: int = 48, width: int = 40) -> np.ndarray:
    """A smooth picture with an edge, as bytes `[height, width, channels]`."""
    y, x = np.mgrid[:height, :width] / 20
    planes = [127 + 80 * np.sin(x * (c + 1)) * np.cos(y) + 40 * (x > y) for c in range(channels)]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [5, 20, 75, 95])
@pytest.mark.parametrize(("channels", "subsample"), [(1, False), (3, False), (3, True)])
def test_jpeg_is_what_a_jpeg_file_decodes_to(
    channels: int, subsample: bool, quality: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a wrong table, scaling, transform, colour matrix or subsampling. With hard rounding
    # only the codec's bytes remain (1 for each conversion), and that a decoder interpolates the
    # colour differences that we repeat.
    pixels = picture(channels)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(
        file, "JPEG", quality=quality, subsampling=2 if subsample else 0
    )
    decoded = np.asarray(Image.open(file), dtype=float).reshape(pixels.shape)
    x = torch.from_numpy(pixels).permute(2, 0, 1).double() / 127.5 - 1
    monkeypatch.setattr("posteria.operators.nonlinear.soft_round", torch.round)
    ours = ((JPEG(quality, tuple(x.shape), subsample)(x) + 1) * 127.5).permute(1, 2, 0).numpy()
    assert np.abs(ours - decoded).mean() < (1.8 if subsample else 0.8)


def test_soft_rounding_is_near_and_passes_a_gradient() -> None:
    x = torch.linspace(-3, 3, 1001, dtype=F64)
    assert (soft_round(x) - x.round()).abs().max() <= 0.125
    slope = score(lambda z: soft_round(z[:, None]).sum(-1), x)
    assert torch.allclose(slope, 3 * (x - x.round()) ** 2)


def test_phase_retrieval_loses_the_phase_and_keeps_the_energy() -> None:
    operator, x = PhaseRetrieval((1, 8, 8)), normal(1, 8, 8)
    y = operator(x)
    assert operator.pad == 2 and y.shape == (1, 12, 12)
    assert (y**2).sum().item() == pytest.approx((((x + 1) / 2) ** 2).sum().item())
    assert torch.allclose(operator(x.flip(-2, -1)), y)
    assert y[0, 6, 6].item() == pytest.approx(abs(((x + 1) / 2).sum().item()) / 12)


def test_nonlinear_operators_by_hand() -> None:
    x = torch.tensor([[-0.9, 0.1, 0.4, 0.9]], dtype=F64)
    assert Clip((4,))(x)[0].tolist() == pytest.approx([-1, 0.2, 0.8, 1])
    levels = torch.linspace(-1, 1, 8, dtype=F64)
    assert torch.allclose(Quantization(3, (8,))(levels), levels)
    fine = torch.linspace(-1, 1, 1001, dtype=F64)
    assert (Quantization(3, (1001,))(fine) - fine).abs().max() <= 1 / 7
    # A black picture stays black, and a bright spot gains on a dark one when blurred in linear
    # light.
    kernel = gaussian_kernel(5, 1.0)
    spot = -torch.ones(1, 9, 9, dtype=F64)
    blurred = NonlinearBlur(kernel, (1, 9, 9))
    assert (blurred(spot) + 1).abs().max() < 0.05
    spot[0, 4, 4] = 1
    assert blurred(spot)[0, 4, 6] > Blur(kernel, (1, 9, 9))(spot)[0, 4, 6] + 0.1
    assert torch.equal(blurred(spot), blurred(spot))


def test_bad_input() -> None:
    with pytest.raises(po.ShapeError, match=r"x has shape \(5,\), not \(\*batch, 6\)"):
        Matrix(normal(4, 6))(torch.zeros(5))
    with pytest.raises(po.ShapeError, match="Blocks of 5 x 5 do not tile"):
        SuperResolution(5, SHAPE)
    with pytest.raises(po.ShapeError, match="JPEG takes"):
        JPEG(50, (2, 8, 8))
    with pytest.raises(po.InputError, match="quality of a JPEG is 1 to 100; 0 is not"):
        JPEG(0, SHAPE)
    with pytest.raises(po.ShapeError, match="cannot follow"):
        Composed(Identity((2,)), Identity((3,)))
    with pytest.raises(po.ShapeError, match="does not mix"):
        ColorMixing(normal(1, 3), (4, 5))
    kernel = gaussian_kernel(3, 1.0)
    for build, sentence in (
        (lambda value: Clip(SHAPE, value), "gain of a clipping is above 0"),
        (lambda value: NonlinearBlur(kernel, SHAPE, gamma=value), "gamma and exposure above 0"),
        (lambda value: NonlinearBlur(kernel, SHAPE, exposure=value), "gamma and exposure above 0"),
    ):
        for value in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(po.InputError, match=sentence):
                build(value)
    for side in (0, 1.5):
        with pytest.raises(po.InputError, match="side of a block of colours"):
            JPEG(50, SHAPE, (1, side))  # type: ignore[arg-type]
    # Catches: an even kernel of 4 from a size of 3.5, NaN from a std whose square is 0, a kernel that measures nothing,
    # another padding than those that the adjoint knows.
    for size, std in ((3.5, 1.0), (4, 1.0), (3, 1e-200), (3, 1e200), (3, float("inf"))):
        with pytest.raises(po.InputError, match="odd kernel size and a std above 0"):
            gaussian_kernel(size, std)  # type: ignore[arg-type]
    for kind in (Blur, CircularBlur):
        with pytest.raises(po.InputError, match="numbers that are not all 0"):
            kind(torch.zeros(3, 3), SHAPE)
    with pytest.raises(po.InputError, match="no padding 'circular'"):
        Blur(kernel, SHAPE, "circular")  # type: ignore[arg-type]
    for bits in (0, 64):
        with pytest.raises(po.InputError, match=f"takes 1 to 16 bits; {bits} were given"):
            Quantization(bits, SHAPE)


@pytest.mark.parametrize("operator", [*OPERATORS[:6], *OPERATORS[9:17:2]], ids=repr)
def test_integers_are_no_signal(operator: Operator) -> None:
    # Catches: bytes of a picture, in whose dtype a blur, a gain and a matrix are 0, and so is what they measure.
    x = torch.ones(operator.domain.shape)
    for wrong in (x.long(), x.bool(), x.to(torch.complex64)):
        with pytest.raises(po.InputError, match=r"x holds .* values; an operator takes"):
            operator(wrong)
    with pytest.raises(po.InputError, match="x is of ndarray"):
        operator(x.numpy())  # type: ignore[arg-type]
    if isinstance(operator, LinearOperator):
        with pytest.raises(po.InputError, match=r"y holds torch\.int64 values"):
            operator.adjoint(operator(x).long())


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float16])
def test_whole_numbers_are_constants(dtype: torch.dtype) -> None:
    # Catches: exact matrices of integers, truth values or half precision that are refused as signals are.
    given = torch.tensor([[1, 0, 1], [0, 1, 1]]).to(dtype)
    x = normal(3, 4).float()
    for matrix in (given, given.numpy(), given.tolist()):
        mixing, dense = ColorMixing(matrix, (3, 4)), Matrix(matrix)
        assert torch.allclose(mixing(x), given.float() @ x)
        assert torch.allclose(dense(x[:, 0]), given.float() @ x[:, 0])
    assert Matrix(given).domain.dtype == ColorMixing(given, (3, 4)).domain.dtype == torch.float32


@pytest.mark.parametrize(
    "build",
    [
        lambda shape: SuperResolution(4, shape),
        lambda shape: Blur(gaussian_kernel(3, 1.0), shape),
        lambda shape: CircularBlur(gaussian_kernel(3, 1.0), shape),
        lambda shape: NonlinearBlur(gaussian_kernel(3, 1.0), shape),
        PhaseRetrieval,
        lambda shape: JPEG(10, shape),
    ],
)
def test_an_operator_of_pictures_takes_no_signal(build: Callable[..., Operator]) -> None:
    # Catches: 12 leads taken for 12 rows of a picture, and averaged with each other.
    with pytest.raises(
        po.ShapeError, match=r"takes .*height, width\).*, not (shape )?\(12, 1024\)"
    ):
        build((12, 1024))
    assert build((3, 16, 16)).domain.shape == (3, 16, 16)


@pytest.mark.parametrize(
    "build", [po.Space, Identity, PhaseRetrieval, lambda side: Clip(side, (3,))]
)  # type: ignore[arg-type]
def test_a_number_is_no_shape(build: Callable[[float], object]) -> None:
    # Catches: a side in place of a shape, or the gain of a clipping before it, that ends in a TypeError of Python.
    for wrong in (3, 2.0):
        with pytest.raises(po.InputError, match=f"A shape is a tuple of sides.*; got {wrong} in"):
            build(wrong)
    with pytest.raises(po.InputError, match="The gain of a clipping is above 0"):
        Clip((3,), (2.0,))  # type: ignore[arg-type]


def test_composition() -> None:
    # Catches: operators in the wrong order; a composition of linear operators that hides that it is
    # linear, which most samplers need.
    a, b = normal(3, 4), normal(4, 6, seed=1)
    both = Matrix(a) @ Matrix(b)
    assert isinstance(both, LinearOperator)
    assert torch.allclose(both.matrix(), a @ b)
    clipped = Clip((4,)) @ Matrix(b)
    assert not isinstance(clipped, LinearOperator)
    x = normal(2, 6, seed=2)
    assert torch.equal(clipped(x), Clip((4,))(Matrix(b)(x)))
    assert repr(clipped) == "Clip(gain=2.0, level=1.0) @ Matrix(): (6,) -> (4,)"
    with pytest.raises(
        po.ShapeError,
        match=r"Matrix\(\) cannot follow Matrix\(\): it takes shape \(6,\), and that gives \(3,\)",
    ):
        Matrix(b) @ Matrix(a)
    with pytest.raises(TypeError, match="unsupported operand"):
        Matrix(b) @ torch.eye(6)  # type: ignore[operator]


def test_the_shape_may_come_first_for_one_version() -> None:
    # Catches: a script of the version before that fails, or builds another operator.
    x = normal(1, 8, 8)
    for old, new in (
        (lambda: SuperResolution((1, 8, 8), 4), SuperResolution(4, (1, 8, 8))),
        (lambda: SuperResolution([1, 8, 8], factor=4), SuperResolution(4, (1, 8, 8))),
        (lambda: JPEG((1, 8, 8), 20, False), JPEG(20, (1, 8, 8), False)),
        (lambda: JPEG((1, 8, 8), quality=20), JPEG(quality=20, shape=(1, 8, 8))),
        (lambda: Quantization((1, 8, 8), bits=3), Quantization(3, shape=(1, 8, 8))),
    ):
        with pytest.warns(DeprecationWarning, match="takes its setting first") as caught:
            operator = old()
        assert caught[0].filename == __file__
        assert torch.equal(operator(x), new(x)) and repr(operator) == repr(new)


def test_operators_take_the_precision_of_their_input() -> None:
    # Catches: a constant kept in single precision, which shows as an error of 1e-8 in double.
    x = normal(*SHAPE)
    for operator in (
        SuperResolution(4, SHAPE),
        CircularBlur(gaussian_kernel(5, 1.2), SHAPE),
        ColorMixing(normal(1, 3), SHAPE),
    ):
        double, single = operator.to(F64, "cpu")(x), operator.to(torch.float32, "cpu")(x.float())
        assert double.dtype == F64 and single.dtype == torch.float32
        assert torch.allclose(operator(x), double, atol=1e-14)
        assert torch.allclose(single.double(), double, atol=1e-5)


def test_calls_are_counted() -> None:
    operator = Inpainting(half_mask(4, 4))
    x = normal(3, 4, 4)
    y, pullback = operator.vjp(x)
    pullback(y)
    assert operator.calls == 2
    clip = Clip((4, 4))
    y, pullback = clip.vjp(x)
    pullback(y)
    assert clip.calls == 2
    # Catches: a cost that rests on a copy starting at 0, which counts what came before it.
    moved = clip.to(torch.float64, "cpu")
    meter = Meter()
    with Watch(meter, 3, moved):
        moved(x)
    assert (meter.operator, moved.calls, clip.calls) == (3, 3, 2)
