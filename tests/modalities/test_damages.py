"""Tasks for pictures as they come: a hole by file, by transparency, by NaN and by colour, a kernel, a small picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

import posteria as po
from posteria.modalities import MODALITIES, Source

IMAGE = MODALITIES["image"]
COLOUR = (3, 20, 30)
HOLE = np.zeros((20, 30), dtype=bool)
HOLE[4:9, 6:20] = True
SEEN = torch.from_numpy(~HOLE)
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(60, 200, (20, 30, 3)).astype("u1")


def hole_of(source: Path, **options: str) -> tuple[Tensor, str, Tensor]:
    """The mask, what is said of it, and the measurement."""
    given = Source(source)
    found = IMAGE.degradation("inpaint", COLOUR, options, source=given)
    y = IMAGE.read_measurement(source, found, taker="it measures", std=0.1).x
    return found.arrays["mask"], found.said[0], y


def test_a_hole_by_file_transparency_colour_and_nan_is_one(tmp_path: Path) -> None:
    # Catches: a hole that nobody asked for, a mask that is read as its complement.
    clean = tmp_path / "photo.png"
    Pillow.fromarray(PHOTO).save(clean)
    for name, drawn in (("black", ~HOLE), ("white", HOLE)):
        Pillow.fromarray(drawn.astype("u1") * 255).save(tmp_path / f"{name}.png")
        np.save(tmp_path / f"{name}.npy", drawn)
    alpha = Pillow.fromarray((~HOLE).astype("u1") * 255)
    Pillow.merge("RGBA", [*Pillow.fromarray(PHOTO).split(), alpha]).save(tmp_path / "alpha.png")
    marked = np.where(HOLE[..., None], np.array([255, 0, 255]), PHOTO).astype("u1")
    Pillow.fromarray(marked).save(tmp_path / "marked.png")
    values = np.where(HOLE, np.nan, PHOTO.transpose(2, 0, 1) / 127.5 - 1)
    np.save(tmp_path / "nan.npy", values)

    mask, said, want = hole_of(clean, mask=str(tmp_path / "black.png"))
    assert torch.equal(mask, SEEN) and said == (
        "Missing is what is black in black.png, 11.7 % of the picture; if the hole is white, say --hole white."
    )
    for source, options, word in (
        (clean, {"mask": "white.png", "hole": "white"}, "what is white in white.png"),
        (clean, {"mask": "black.npy"}, "what is 0 in black.npy"),
        (clean, {"mask": "white.npy", "hole": "white"}, "what is 1 in white.npy"),
        (clean, {"mask": "marked.png", "hole": "#ff00ff"}, "what is #ff00ff in marked.png"),
        (clean, {"mask": "alpha.png"}, "what is transparent in alpha.png"),
        (tmp_path / "alpha.png", {}, "what is transparent in alpha.png"),
        (tmp_path / "marked.png", {"hole": "magenta"}, "what is magenta in marked.png"),
        (tmp_path / "nan.npy", {}, "what is NaN in nan.npy"),
        (tmp_path / "nan.npy", {"hole": "transparent"}, "what is NaN in nan.npy"),
    ):
        paths = {k: str(tmp_path / v) if k == "mask" else v for k, v in options.items()}
        mask, said, y = hole_of(source, **paths)
        assert torch.equal(mask, SEEN) and said.startswith(f"Missing is {word}, 11.7 %"), said
        assert torch.allclose(y, want, atol=1e-6)
        assert source.suffix == ".npy" or torch.equal(y, want)
    # The wrong way round is another hole, and the share tells.
    mask, said, _ = hole_of(clean, mask=str(tmp_path / "white.png"))
    assert torch.equal(mask, ~SEEN) and "88.3 %" in said


def test_a_hole_that_is_none_is_said(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Pillow.fromarray(PHOTO).save(path)
    np.save(tmp_path / "whole.npy", PHOTO.transpose(2, 0, 1) / 127.5 - 1)
    for name in ("photo.png", "whole.npy"):
        with pytest.raises(
            po.InputError, match=f"{name} has no hole: nothing in it is .*--mask FILE"
        ):
            hole_of(tmp_path / name)
    Pillow.fromarray(PHOTO[:18]).save(tmp_path / "other.png")
    with pytest.raises(po.InputError, match=r"other.png is 18 x 30; the picture is 20 x 30"):
        hole_of(path, mask=str(tmp_path / "other.png"), hole="#ff00ff")
    with pytest.raises(
        po.InputError, match=r"an array, whose --hole is black \(0\) or white \(1\)"
    ):
        np.save(tmp_path / "mask.npy", HOLE)
        hole_of(path, mask=str(tmp_path / "mask.npy"), hole="#ff00ff")


def test_an_option_of_one_choice_implies_it() -> None:
    # Catches: a share of pixels that is ignored because the mask is a box, a motion that is a Gaussian.
    found = IMAGE.degradation("inpaint", COLOUR, {"share": "0.25"}, seed=3)
    assert found.options == {"mask": "random", "share": 0.25, "seed": 3}
    assert found.operator.codomain.size == 3 * 150
    found = IMAGE.degradation("blur", COLOUR, {"length": "5", "angle": "30"})
    assert found.options == {"kernel": "motion", "length": 5.0, "angle": 30.0}
    assert IMAGE.degradation("blur", COLOUR, {}).options == {"kernel": "gaussian", "blur": 1.5}
    assert IMAGE.degradation("inpaint", COLOUR, {}).options == {"mask": "box"}
    with pytest.raises(po.InputError, match="'angle' is for kernel motion; kernel shake"):
        IMAGE.degradation("blur", COLOUR, {"kernel": "shake", "angle": "30"})
    # Catches: a shake that blurs nothing.
    with pytest.raises(po.InputError, match=r"a width above 0\.5 pixels.*0\.5 is not"):
        IMAGE.degradation("blur", COLOUR, {"kernel": "shake", "blur": 0.5})


@pytest.mark.parametrize("suffix", ["npy", "png", "tif"])
def test_a_kernel_from_a_file_is_the_kernel(suffix: str, tmp_path: Path) -> None:
    # Catches: a kernel in the units of pictures, mirrored, or not scaled to sum 1.
    kernel, path = RNG.integers(0, 255, (5, 7)).astype("u1"), tmp_path / f"k.{suffix}"
    if suffix == "npy":
        np.save(path, kernel)
    else:
        Pillow.fromarray(kernel).save(path)
    made = IMAGE.degradation("blur", COLOUR, {"kernel": str(path)}).operator
    x = torch.from_numpy(RNG.standard_normal((2, *COLOUR)))
    k = torch.from_numpy(kernel / kernel.sum())
    assert torch.allclose(made(x), po.operators.Blur(k, COLOUR)(x), atol=1e-6)


def test_the_small_picture_is_what_was_measured(tmp_path: Path) -> None:
    # Catches: a small picture that is refused, resized, or degraded once more.
    path, task = tmp_path / "small.png", IMAGE.tasks["sr"]
    Pillow.fromarray(PHOTO).save(path)
    want = torch.from_numpy(PHOTO.transpose(2, 0, 1) / np.float32(127.5) - 1)
    for factor in (2, 3, 4, 8):
        for by in ("average", "bicubic"):
            options = {"factor": str(factor), "by": by}
            assert IMAGE.size_of(path, task, options, False) == (20 * factor, 30 * factor)
            shape = (3, 20 * factor, 30 * factor)
            found = IMAGE.degradation("sr", shape, options, source=Source(path))
            y = IMAGE.read_measurement(path, found, taker="it measures", std=0.1).x
            assert torch.equal(y, want)
    assert IMAGE.size_of(path, task, {"factor": 4}, True) == (20, 30)
    # Catches: a factor of 0 that ends in a division by it.
    for factor in ("0", "-1"):
        with pytest.raises(po.InputError, match=f"is an integer of at least 1; {factor} is not"):
            IMAGE.size_of(path, task, {"factor": factor}, False)


@pytest.mark.parametrize(("quality", "sampling"), [(95, 0), (75, 2), (50, 2)])
def test_a_colour_marks_a_hole_in_a_jpeg_file_too(
    tmp_path: Path, quality: int, sampling: int
) -> None:
    # Catches: a colour that compression changed and that nothing has any more, its bleeding that stays, a hole
    # everywhere. A stroke and a disc on hills.
    y, x = np.mgrid[:96, :128]
    hole = ((x - 40) ** 2 + (y - 50) ** 2 < 300) | (abs(x - y - 20) < 4)
    hills = np.stack([110 + 60 * np.sin(x / 17 + c) * np.cos(y / 23) for c in range(3)], -1)
    marked = np.where(hole[..., None], np.array([255, 0, 255]), hills).round().astype("u1")
    path = tmp_path / "marked.jpg"
    Pillow.fromarray(marked).save(path, quality=quality, subsampling=sampling)
    found = IMAGE.degradation("inpaint", (3, 96, 128), {"hole": "#ff00ff"}, source=Source(path))
    seen = found.arrays["mask"].numpy()
    assert "within 64 of 255, and 3 pixels around, since JPEG changes colours" in found.said[0]
    assert not seen[hole].any()
    far = torch.nn.functional.max_pool2d(torch.from_numpy(hole)[None].float(), 11, 1, 5)[0] == 0
    assert seen[far.numpy()].all()
    # What is left is nearly the picture.
    off = np.abs(np.asarray(Pillow.open(path)).astype(float) - hills).max(-1)[seen]
    assert np.quantile(off, 0.99) < 40


def test_a_mask_and_a_kernel_may_be_arrays() -> None:
    # Catches: an array of NumPy's refused as no text, or its numbers changed.
    mask = np.arange(28 * 28).reshape(28, 28) % 2
    given = IMAGE.degradation("inpaint", (1, 28, 28), {"mask": mask})
    assert torch.equal(given.arrays["mask"], torch.from_numpy(mask))
    assert given.operator.codomain.shape == (392,)
    kernel = np.array([[0.0, 0.25, 0.75]])
    x = torch.rand((1, 28, 28), dtype=torch.float64)
    y = IMAGE.degradation("blur", (1, 28, 28), {"kernel": kernel}).operator(x)
    assert torch.equal(
        y, IMAGE.degradation("blur", (1, 28, 28), {"kernel": torch.tensor(kernel)}).operator(x)
    )
    with pytest.raises(po.InputError, match="kernel holds complex128 values; real numbers"):
        IMAGE.degradation("blur", (1, 28, 28), {"kernel": kernel + 1j})
