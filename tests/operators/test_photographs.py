"""Operators of photographs: kernels of blurs and motions, a smaller picture."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

import posteria as po
from posteria.operators import Bicubic, Blur, Clip, gaussian_kernel, line_kernel, motion_kernel
from posteria.testing import check_operator


@pytest.mark.parametrize(("length", "angle"), [(9.0, 0.0), (12.5, 30.0), (7.0, 90.0), (20.0, -50)])
def test_a_straight_motion_has_its_length_and_its_angle(length: float, angle: float) -> None:
    # Catches: an angle that turns clockwise, a path of half the length, a centre that is off.
    kernel = line_kernel(length, angle)
    offsets = torch.arange(len(kernel)).double() - len(kernel) // 2
    weight = kernel / kernel.sum()
    assert float(kernel.sum()) == pytest.approx(1) and kernel.min() >= 0
    rows, columns = torch.meshgrid(-offsets, offsets, indexing="ij")
    assert float((weight * rows).sum()) == pytest.approx(0, abs=1e-9)
    assert float((weight * columns).sum()) == pytest.approx(0, abs=1e-9)
    turn = np.radians(angle)
    # A uniform path has length^2 / 12 along it; between two pixels a point adds f (1 - f) on each axis.
    want = length**2 / 12 * np.sin(turn) * np.cos(turn)
    assert float((weight * rows * columns).sum()) == pytest.approx(want, abs=1e-3 * length**2)
    both = float((weight * (rows**2 + columns**2)).sum())
    assert both == pytest.approx(length**2 / 12, abs=0.51)
    assert torch.allclose(line_kernel(length, angle + 90), kernel.rot90(), atol=1e-12)
    assert torch.allclose(line_kernel(length, angle + 180), kernel, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_bicubic_is_that_of_picture_software(factor: int) -> None:
    # Catches: a kernel that is not widened, so that the small picture is aliased; half a pixel of shift.
    shape = (1, 24, 48)
    operator = Bicubic(factor, shape)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    small = Image.fromarray(x[0].numpy().astype("f4")).resize(
        (48 // factor, 24 // factor), Image.Resampling.BICUBIC
    )
    assert np.allclose(operator(x)[0], np.asarray(small), atol=1e-5)


def test_the_battery() -> None:
    check_operator(Bicubic(2, (3, 8, 12)))
    with pytest.raises(po.ShapeError, match="Blocks of 5 x 5 do not tile"):
        Bicubic(5, (3, 8, 12))
    assert Clip((2,), gain=1.5)(torch.tensor([0.5, -0.9])).tolist() == [0.75, -1.0]


def test_kernels() -> None:
    for kernel in (gaussian_kernel(9, 2.0), motion_kernel(9, seed=0), motion_kernel(61, seed=5)):
        assert kernel.sum().item() == pytest.approx(1)
        assert (kernel >= 0).all()
    impulse = np.zeros((61, 61))
    impulse[30, 30] = 1
    expected = ndimage.gaussian_filter(impulse, 3.0, truncate=10)
    assert np.allclose(gaussian_kernel(61, 3.0).numpy(), expected, atol=1e-6)
    assert torch.equal(motion_kernel(9, seed=0), motion_kernel(9, seed=0))
    assert not torch.equal(motion_kernel(9, seed=0), motion_kernel(9, seed=1))
    # Catches: a path for which there is no room, so that nothing is blurred.
    assert all((motion_kernel(5, seed=seed) > 0).sum() > 1 for seed in range(20))
    for size in (3, 4, 5.5):
        with pytest.raises(po.InputError, match="odd size above 3"):
            motion_kernel(size, seed=0)  # type: ignore[arg-type]
    with pytest.raises(po.InputError, match="odd kernel size"):
        gaussian_kernel(4, 1.0)
    with pytest.raises(po.ShapeError, match="larger than a signal"):
        Blur(gaussian_kernel(9, 1.0), (3, 8, 8))
