"""Pictures and arrays that say of their numbers what few readers look at: each is read as it says, or a sentence."""

import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow, PngImagePlugin

import posteria as po
from posteria.modalities import MODALITIES, Signal, Source
from posteria.modalities.image.heads import compression_of, size_of
from posteria.modalities.image.original import read_original

IMAGE = MODALITIES["image"]
HEIGHT, WIDTH = 16, 24
RAMP = np.tile(np.linspace(0, 255, WIDTH).round().astype("u1"), (HEIGHT, 1))
RGB = np.stack([RAMP, 255 - RAMP, RAMP // 2 + 40], -1)
DEEP = RGB.astype("u2") * 257
HALF = np.full((HEIGHT, WIDTH, 1), 2**15, "u2")


def measured(path: Path, task: str, channels: int = 1, **options: Any) -> Signal:
    size = IMAGE.size_of(path, IMAGE.task(task, path.name), options, False)
    assert size is not None
    given = IMAGE.degradation(task, (channels, *size), options, source=Source(path))
    signal = IMAGE.read_measurement(path, given, taker="it measures", std=0.01)
    return Signal(signal.x, signal.name, signal.meta, signal.said + given.said)


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_white_may_be_zero(kind: str, tmp_path: Path) -> None:
    # Catches: a negative of 16 bits or of floats (TIFF's WhiteIsZero), which was read as it is.
    grey = {"u1": RAMP, "u2": DEEP[..., 0], "f4": (RAMP / 255).astype("f4")}[kind]
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="miniswhite")
    original = read_original(tmp_path / "a.tif")
    assert np.array_equal(original.values[..., 0], original.white - grey)


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_channels_are_what_the_file_says(planes: str, tmp_path: Path) -> None:
    # Catches: 16 bits in planes of which Pillow reads every byte as a pixel; a fourth band (near infrared) taken for
    # opacity, or lost without a word; colours that were multiplied by their opacity taken for what they were.
    path = tmp_path / "a.tif"

    def write(array: np.ndarray, *extra: str) -> tuple[np.ndarray, np.ndarray | None, str]:
        turned = array if planes == "contig" else np.moveaxis(array, 2, 0).copy()
        more: dict[str, Any] = {"extrasamples": extra} if extra else {}
        tifffile.imwrite(path, turned, photometric="rgb", planarconfig=planes, **more)
        original = read_original(path)
        return original.values, original.alpha, " ".join(original.said)

    assert np.array_equal(write(DEEP)[0], DEEP)
    values, alpha, said = write(np.dstack([DEEP, HALF]), "unspecified")
    assert np.array_equal(values, DEEP) and alpha is None
    assert "a.tif has a channel that is neither colour nor opacity: left aside" in said
    assert "2 channels that are" in write(np.dstack([DEEP, HALF, HALF]), *["unspecified"] * 2)[2]
    if planes == "contig":
        values, alpha, said = write(np.dstack([RGB, RAMP]), "unspecified")
        assert alpha is None and "left aside, and not in what is written" in said
    values, alpha, _ = write(np.dstack([DEEP, HALF]), "unassalpha")
    assert np.array_equal(values, DEEP) and alpha is not None and (alpha == 2**15).all()
    values, alpha, _ = write(np.dstack([DEEP // 2, HALF]), "assocalpha")
    assert np.abs(values.astype(int) - DEEP).max() <= 2 and alpha is not None


def test_numbers_of_no_known_range_are_refused(tmp_path: Path) -> None:
    # Catches: 12 bits read as the lowest of 16, numbers with a sign as bytes, other colours as RGB, the first of
    # several frames of floats, JPEG 2000 of 16 bits, whose white Pillow makes black.
    floats = (RGB / 255).astype("f4")
    for name, array, more in (
        ("12", RAMP.astype("u2") * 16, {"bitspersample": 12}),
        ("sign", (RAMP // 2).astype("i1"), {}),
        ("wide", floats[..., 0].astype("f8"), {}),
        ("lab", DEEP, {"photometric": "cielab"}),
        ("frames", np.stack([floats] * 3), {"photometric": "rgb"}),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, **more)
    (tmp_path / "deep.jp2").write_bytes(imagecodecs.jpeg2k_encode(DEEP))
    for name, sentence in (
        ("12.tif", "holds 12-bit integers, whose range is not known"),
        ("sign.tif", "holds 8-bit signed integers"),
        ("wide.tif", "holds 64-bit floats"),
        ("lab.tif", r"neither grey nor RGB \(TIFF's kind 8\)"),
        ("frames.tif", "holds 3 pictures"),
        ("deep.jp2", "has 16 bits in each of several channels"),
    ):
        with pytest.raises(po.InputError, match=sentence):
            read_original(tmp_path / name)


def test_what_is_read_with_fewer_bits_or_too_dark_is_said(tmp_path: Path) -> None:
    # Catches: 12 bits of a camera in numbers of 16, nearly black; 16 bits of a PPM or of inks cut to 8; numbers in
    # proportion to light, which are dark to the eye.
    dark = RAMP.astype("u2") * 16
    tifffile.imwrite(tmp_path / "dark.tif", dark)
    np.save(tmp_path / "dark.npy", dark)
    for name in ("dark.tif", "dark.npy"):
        said = " ".join(measured(tmp_path / name, "denoise").said)
        assert f"{name} has 16 bits, and no value above 4080, 6.2 % of white" in said
        assert "multiply them by 16." in said
    (tmp_path / "a.ppm").write_bytes(b"P6 24 16 65535\n" + DEEP.astype(">u2").tobytes())
    tifffile.imwrite(tmp_path / "inks.tif", np.dstack([DEEP, HALF]), photometric="separated")
    for name in ("a.ppm", "inks.tif"):
        assert f"Of the 16 bits of {name} 8 are read" in " ".join(
            read_original(tmp_path / name).said
        )
    for gamma in (45455, 100000):
        chunk = PngImagePlugin.PngInfo()
        chunk.add(b"gAMA", struct.pack(">I", gamma))
        Pillow.fromarray(RAMP).save(tmp_path / "a.png", pnginfo=chunk)
        said = " ".join(read_original(tmp_path / "a.png").said)
        assert ("says a gamma of 1, and is taken as it is" in said) == (gamma == 100000)
    np.save(tmp_path / "pale.npy", 0.02 + 0.96 * RAMP / 255)
    assert (
        "is taken as a pale picture; is it in [0, 1]?"
        in measured(tmp_path / "pale.npy", "denoise").said[0]
    )


def test_a_turned_jpeg_file_has_its_sampling_turned(tmp_path: Path) -> None:
    # Catches: colours halved across where the picture that is shown has them halved down (14.8 grey levels off where
    # 5.5 are rounding); a sampling that is unknown, or that of the file, in place of which the usual one was taken.
    random = np.random.default_rng(0).integers(0, 255, (12, 10, 3)).astype("u1")
    picture = Pillow.fromarray(random).resize((80, 64), Pillow.Resampling.BICUBIC)
    path, exif = tmp_path / "a.jpg", Pillow.Exif()
    for turn, sampling, sentence in (
        (1, "4:2:2", ""),
        (6, "4:4:0", "before it was turned (EXIF)"),
    ):
        exif[274] = turn
        picture.save(path, quality=20, exif=exif, subsampling="4:2:2")
        given = IMAGE.degradation("jpeg", (3, *read_original(path).size), {}, source=Source(path))
        assert given.options == {"quality": 20, "sampling": sampling}
        assert sentence in given.said[0]
        y = measured(path, "jpeg", 3).x
        assert 127.5 * float((given.operator(y[None])[0] - y).square().mean().sqrt()) < 7
    picture.convert("CMYK").save(path)
    found = compression_of(path)
    assert found is not None and found.sampling == ""
    with pytest.raises(po.InputError, match=r"another way than 4:4:4.*--option sampling=4:4:4"):
        measured(path, "jpeg", 3)


def test_the_orientation_of_a_png_file_may_stand_behind_its_pixels(tmp_path: Path) -> None:
    # Catches: a size before the turn for a picture that is read after it.
    exif = Pillow.Exif()
    exif[274] = 6
    Pillow.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"eXIf") - 4
    end = at + 12 + int.from_bytes(content[at : at + 4], "big")
    (tmp_path / "b.png").write_bytes(
        content[:at] + content[end:-12] + content[at:end] + content[-12:]
    )
    for name in ("a.png", "b.png"):
        assert size_of(tmp_path / name) == read_original(tmp_path / name).size == (WIDTH, HEIGHT)


def test_arrays_with_holes_and_few_values(tmp_path: Path) -> None:
    # Catches: channels that are last, whose holes were looked for in the rows; a picture of 256 values taken for one
    # of four, since nobody said how many it has.
    holes = np.where(RGB[..., :1] > 99, np.nan, RGB / 127.5 - 1)
    np.save(tmp_path / "holes.npy", holes)
    y = measured(tmp_path / "holes.npy", "inpaint", 3).x
    assert torch.equal(
        y, torch.from_numpy(np.moveaxis(holes, 2, 0)).float()[:, RAMP <= 99].flatten()
    )
    np.save(tmp_path / "mask.npy", RAMP[..., None] <= 99)
    given = IMAGE.degradation("inpaint", (1, HEIGHT, WIDTH), {"mask": str(tmp_path / "mask.npy")})
    assert torch.equal(given.arrays["mask"], torch.from_numpy(RAMP <= 99))
    Pillow.fromarray(RAMP).save(tmp_path / "many.png")
    Pillow.fromarray(RAMP // 64 * 85).save(tmp_path / "four.png")
    with pytest.raises(po.InputError, match="other values than the 4 of 2 bits; say by --bits"):
        measured(tmp_path / "many.png", "quantize")
    assert measured(tmp_path / "four.png", "quantize").x.unique().numel() == 4
