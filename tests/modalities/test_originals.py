"""Picture files as they are: what is not restored comes back to the last bit, in every depth, with all beside it."""

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow, ImageCms

import posteria as po
from posteria.modalities import MODALITIES, Signal
from posteria.modalities.image.containers import png_file, tags_of, tiff_file
from posteria.modalities.image.original import Original, read_original

IMAGE = MODALITIES["image"]
HEIGHT, WIDTH = 12, 18
DEPTHS = {"8": np.uint8, "16": np.uint16, "float": np.float32}
LAYOUTS = {"grey": 1, "grey with alpha": 2, "colour": 3, "colour with alpha": 4}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def pixels(kind: str, channels: int) -> np.ndarray:
    values = np.random.default_rng(channels).random((HEIGHT, WIDTH, channels))
    dtype = DEPTHS[kind]
    made = values if kind == "float" else (values * np.iinfo(dtype).max).round()
    return np.squeeze(made.astype(dtype), 2) if channels == 1 else made.astype(dtype)


def read(path: Path, fit: tuple[int, int] | None = None) -> tuple[Signal, Original]:
    original = read_original(path)
    shape = (original.values.shape[2], *(fit or original.size))
    return IMAGE.read(path, shape, taker="it takes", fit=fit is not None), original


def written(signal: Signal, folder: Path, x: torch.Tensor | None = None, **given: Any) -> Path:
    made = IMAGE.write("again", signal.x if x is None else x, signal, **given)
    ((name, content),) = made.items()
    path = folder / name
    path.write_bytes(content)
    return path


def same(a: Original, b: Original) -> bool:
    equal = np.array_equal(a.values, b.values) and a.values.dtype == b.values.dtype
    return (
        equal
        and (a.alpha is None) == (b.alpha is None)
        and (a.alpha is None or b.alpha is None or np.array_equal(a.alpha, b.alpha))
    )


@pytest.mark.parametrize("channels", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("8", ".png"), ("8", ".tif"), ("16", ".png"), ("16", ".tif"), ("float", ".tif")],
)
def test_what_is_not_restored_comes_back(
    kind: str, suffix: str, channels: int, tmp_path: Path
) -> None:
    # Catches: 16 bits in colour that Pillow reads as 8; floats rounded; opacity lost; the last bit of anything.
    array, path = pixels(kind, channels), tmp_path / f"a{suffix}"
    path.write_bytes(tiff_file(array, {}) if suffix == ".tif" else png_file(array))
    if channels in {2, 4}:
        opaque = 1 if kind == "float" else np.iinfo(array.dtype).max
        array[3, 4, -1] = opaque
        path.write_bytes(tiff_file(array, {}) if suffix == ".tif" else png_file(array))
    signal, original = read(path)
    planes = array if array.ndim == 3 else array[..., None]
    assert np.array_equal(original.values, planes[..., : 1 if channels < 3 else 3])
    again = read_original(written(signal, tmp_path))
    assert same(again, original) and again.suffix == suffix
    # What is restored, in one pixel, is there in the depth of the file, and nothing else.
    x = signal.x.clone()
    x[:, 3, 4] = 0.25
    changed = read_original(written(signal, tmp_path, x=x))
    level = 0.625 * original.white
    want = original.values.copy()
    want[3, 4] = level if kind == "float" else round(level)
    assert np.array_equal(changed.values, want)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_what_a_file_holds_beside_its_pixels(suffix: str, turn: int, tmp_path: Path) -> None:
    # Catches: a photograph that is turned twice; a camera's data, its place or the profile of its colours lost.
    exif = Pillow.Exif()
    exif[271], exif[274] = "Camera", turn
    exif.get_ifd(34665)[37386] = 50.0
    exif.get_ifd(34853)[1] = "N"
    path, whole = (
        tmp_path / f"a{suffix}",
        {"exif": exif, "icc_profile": PROFILE, "dpi": (300, 300)},
    )
    Pillow.fromarray(pixels("8", 3)).save(path, **whole)
    signal, original = read(path)
    assert original.size == ((WIDTH, HEIGHT) if turn > 4 else (HEIGHT, WIDTH))
    again = written(signal, tmp_path)
    assert same(read_original(again), original)
    with Pillow.open(path) as before, Pillow.open(again) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))
        assert after.info["icc_profile"] == before.info["icc_profile"] == PROFILE
        if suffix != ".tif":
            # The bytes themselves, without the mark that a JPEG has before them.
            bare = [each.info["exif"].removeprefix(b"Exif\0\0") for each in (before, after)]
            assert bare[0] == bare[1]
        for directory in (34665, 34853):
            assert dict(after.getexif().get_ifd(directory)) == dict(
                before.getexif().get_ifd(directory)
            )
        assert after.getexif()[271] == "Camera"
        if suffix == ".png":
            assert after.info["dpi"] == before.info["dpi"]
    # Pillow forgets a TIFF file's orientation as it turns it.
    assert suffix != ".tif" or tags_of(again)[274][1] == turn
    said = signal.said
    assert said == (
        ("a.jpg is a JPEG file; what is restored is written as .png.",) if suffix == ".jpg" else ()
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_part_is_put_back_into_the_whole(channels: int, tmp_path: Path) -> None:
    # Catches: a crop that lands elsewhere, or between pixels; a rest that is resampled.
    path = tmp_path / "a.png"
    path.write_bytes(png_file(pixels("16", channels)))
    (signal, original), middle = read(path, (HEIGHT, 10)), np.s_[:, 4:14]
    assert "its middle of 12 x 10 is taken" in signal.said[0]
    assert same(read_original(written(signal, tmp_path)), original)
    white = read_original(written(signal, tmp_path, x=torch.ones_like(signal.x)))
    assert (white.values[middle] == 65535).all()
    rest = np.ones((HEIGHT, WIDTH), dtype=bool)
    rest[middle] = False
    assert np.array_equal(white.values[rest], original.values[rest])
    # Half the size: only what is missing is replaced, by whole pixels of the smaller picture.
    small, _ = read(path, (6, 5))
    missing = torch.zeros(6, 5, dtype=torch.bool)
    missing[2, 1] = True
    hole = po.operators.Inpainting(~missing, small.x.shape)
    x = torch.full_like(small.x, -1)
    holed = read_original(written(small, tmp_path, x=x, operator=hole))
    changed = (holed.values != original.values).any(-1)
    assert np.argwhere(changed).tolist() == [[4, 6], [4, 7], [5, 6], [5, 7]]
    assert (holed.values[changed] == 0).all()


def test_a_filled_hole_is_opaque_and_paper_comes_off(tmp_path: Path) -> None:
    # Catches: a restored hole that stays transparent; white paper mixed in twice.
    array = pixels("8", 4)
    array[..., 3] = 255
    array[2:4, 2:4, 3] = 0
    array[8, 8, 3] = 128
    (tmp_path / "a.png").write_bytes(png_file(array))
    whole = (3, HEIGHT, WIDTH)
    denoise = IMAGE.degradation("denoise", whole, {})
    signal = IMAGE.read_measurement(tmp_path / "a.png", denoise, taker="it", std=0.1)
    assert same(read_original(written(signal, tmp_path)), read_original(tmp_path / "a.png"))
    darker = signal.x - 1e-4
    off = read_original(written(signal, tmp_path, x=darker))
    assert np.abs(off.values.astype(int) - array[..., :3]).max() <= 1
    inpaint = IMAGE.degradation("inpaint", whole, {"mask": str(tmp_path / "a.png")})
    signal = IMAGE.read_measurement(tmp_path / "a.png", inpaint, taker="it", std=0.1)
    missing = ~inpaint.arrays["mask"]
    filled = read_original(
        written(signal, tmp_path, x=torch.zeros(whole), operator=inpaint.operator)
    )
    assert filled.alpha is not None and (filled.alpha[2:4, 2:4] == 255).all()
    assert (filled.values[2:4, 2:4] == 128).all()
    kept = ~missing.numpy()
    assert np.array_equal(filled.values[kept], array[kept][:, :3])


def test_another_size_is_written_in_the_same_depth(tmp_path: Path) -> None:
    # Catches: an enlarged picture written with 8 bits; the profile of a grey file on colours.
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_file(pixels("16", 1), {34675: (7, PROFILE)}))
    sr = IMAGE.degradation("sr", (1, 2 * HEIGHT, 2 * WIDTH), {"factor": 2})
    signal = IMAGE.read_measurement(path, sr, taker="it", std=0.1)
    x = torch.rand(1, 2 * HEIGHT, 2 * WIDTH) * 2 - 1
    large = read_original(written(signal, tmp_path, x=x))
    assert large.values.dtype == np.uint16 and 34675 in large.tags
    assert np.array_equal(large.values[..., 0], ((x[0].double() + 1) / 2 * 65535).round().numpy())
    coloured = read_original(written(signal, tmp_path, x=x.expand(3, -1, -1)))
    assert coloured.values.shape[2] == 3 and 34675 not in coloured.tags


def test_the_extra_is_named_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: 16 bits in colour that are cut to 8 without a word.
    for suffix, write in ((".png", png_file), (".tif", lambda array: tiff_file(array, {}))):
        (tmp_path / f"deep{suffix}").write_bytes(write(pixels("16", 3)))
        (tmp_path / f"grey{suffix}").write_bytes(write(pixels("16", 1)))
    plain = builtins.__import__

    def without(name: str, *words: Any) -> Any:
        if name in {"imagecodecs", "tifffile"}:
            raise ImportError(name)
        return plain(name, *words)

    monkeypatch.setattr(builtins, "__import__", without)
    for suffix in (".png", ".tif"):
        with pytest.raises(
            po.InputError, match=r"the extra `deep` reads: pip install 'posteria\[deep\]'"
        ):
            read_original(tmp_path / f"deep{suffix}")
        assert read_original(tmp_path / f"grey{suffix}").values.dtype == np.uint16


def test_damaged_deep_files_are_refused(tmp_path: Path) -> None:
    for name, content in (
        ("a.png", png_file(pixels("16", 3))),
        ("a.tif", tiff_file(pixels("16", 3), {})),
    ):
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(po.InputError, match="cannot be read as a picture"):
            read_original(tmp_path / name)
    Pillow.open(io.BytesIO(png_file(pixels("8", 4)))).load()
