"""Pictures in and out: every depth, transparency and layout has one meaning, and the rest is refused in a sentence."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

import posteria as po
from posteria.modalities import MODALITIES, Source, modality_of
from posteria.modalities.arrays import read_array
from posteria.priors.card import Card, Data

IMAGE = MODALITIES["image"]
RAMP = np.tile(np.linspace(0, 255, 28).round().astype("u1"), (28, 1))
DEEP = RAMP.astype("u2") * 257
WANT = torch.from_numpy(RAMP / 127.5 - 1)
GREY, COLOUR = (1, 28, 28), (3, 28, 28)
HOLE = np.full((28, 28), 255, "u1")
HOLE[8:20, 8:20] = 0


def read(path: Path, shape: tuple[int, ...] = GREY, fit: bool = False) -> Tensor:
    return IMAGE.read(path, shape, taker="the prior takes", fit=fit).x


def big_endian_tiff(path: Path) -> None:
    tags = [(256, 28), (257, 28), (258, 16), (259, 1), (262, 1), (273, 126), (277, 1), (278, 28)]
    tags.append((279, 28 * 56))
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = b"MM\0*" + struct.pack(">I", 8) + struct.pack(">H", len(tags)) + entries + bytes(4)
    path.write_bytes(head + bytes(126 - len(head)) + DEEP.astype(">u2").tobytes())


@pytest.mark.parametrize("fit", [False, True])
@pytest.mark.parametrize(
    "name", ["8.png", "16.png", "16.tif", "be.tif", "16.pgm", "float.tif", "la.png", "8.npy"]
)
def test_depths(name: str, fit: bool, tmp_path: Path) -> None:
    # Catches: a picture of more than 8 bits clipped to white, one of floats to black.
    path = tmp_path / name
    match name:
        case "16.pgm":
            path.write_bytes(b"P5 28 28 65535\n" + DEEP.astype(">u2").tobytes())
        case "be.tif":
            big_endian_tiff(path)
        case "float.tif":
            Pillow.fromarray((RAMP / 255).astype("f4")).save(path)
        case "la.png":
            Pillow.merge("LA", [Pillow.fromarray(v) for v in (RAMP, RAMP * 0 + 255)]).save(path)
        case "8.npy":
            np.save(path, RAMP)
        case _:
            Pillow.fromarray(DEEP if name.startswith("16") else RAMP).save(path)
    assert torch.allclose(read(path, fit=fit)[0].double(), WANT, atol=1e-6)
    if fit and not name.endswith("npy"):
        # Catches: a grey picture of 16 bits that a colour prior gets as black and white.
        assert torch.allclose(read(path, COLOUR, fit)[1].double(), WANT, atol=1e-2)


def test_what_a_picture_may_be(tmp_path: Path) -> None:
    # Catches: a picture of another mode read as something else.
    colour = np.stack([RAMP, RAMP.T, 255 - RAMP], -1)
    picture, want = Pillow.fromarray(colour), torch.from_numpy(colour / 127.5 - 1).permute(2, 0, 1)
    for name in ("rgb.png", "rgba.png", "cmyk.tif", "palette.png"):
        modes = {"rgba.png": "RGBA", "cmyk.tif": "CMYK"}
        (picture.quantize() if name == "palette.png" else picture.convert(modes.get(name))).save(
            tmp_path / name
        )
        near = 0.2 if name == "palette.png" else 1e-6
        assert (read(tmp_path / name, COLOUR) - want).abs().max() < near
    Pillow.fromarray(HOLE).convert("1").save(tmp_path / "bits.png")
    assert torch.equal(read(tmp_path / "bits.png")[0], torch.from_numpy(HOLE / 127.5 - 1).float())


def refusals(folder: Path) -> dict[str, str]:
    """Files, and what is said about them."""
    Pillow.fromarray(DEEP.astype("i4")).save(folder / "32.tif")
    Pillow.fromarray((RAMP / 127.5 - 1).astype("f4")).save(folder / "negative.tif")
    Pillow.fromarray(RAMP.astype("f4")).save(folder / "255.tif")
    Pillow.fromarray(np.full((28, 28), np.nan, "f4")).save(folder / "nan.tif")
    frames = [Pillow.fromarray(RAMP), Pillow.fromarray(RAMP.T.copy())]
    frames[0].save(folder / "two.tif", save_all=True, append_images=frames[1:])
    Pillow.fromarray(np.stack([RAMP] * 3, -1), "LAB").save(folder / "lab.tif")
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder.png").mkdir()
    Pillow.fromarray(RAMP).save(folder / "good.png")
    good = (folder / "good.png").read_bytes()
    (folder / "half.png").write_bytes(good[:50])
    head = b"IHDR" + struct.pack(">II", 20000, 20000) + good[24:29]
    check = struct.pack(">I", zlib.crc32(head))
    (folder / "bomb.png").write_bytes(good[:12] + head + check + good[33:])
    return {
        "32.tif": "32-bit signed integers, whose range is not known",
        "negative.tif": "floats from -1 to 1; a picture of floats is read where 0 is black and 1 is white",
        "255.tif": "floats from 0 to 255",
        "nan.tif": "values that are NaN or infinite; mark what is missing",
        "two.tif": "holds 2 pictures; save the one to use",
        "lab.tif": "mode LAB; save it as grey or RGB",
        "empty.png": "cannot be read as a picture",
        "folder.png": "is a folder; name a file",
        "half.png": "cannot be read as a picture",
        "bomb.png": "has more than 178956970 pixels",
        "absent.png": "There is no file",
    }


def test_what_is_no_picture_is_said_in_a_sentence(tmp_path: Path) -> None:
    # Catches: a traceback from inside Pillow; the first of several frames taken without a word.
    for name, sentence in refusals(tmp_path).items():
        with pytest.raises(po.InputError, match=sentence) as caught:
            read(tmp_path / name, fit=True)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_transparency_of_a_picture(tmp_path: Path) -> None:
    # Catches: colours of transparent pixels, which nobody ever saw, taken for the truth.
    seen, path = torch.from_numpy(HOLE == 255), tmp_path / "a.png"
    Pillow.merge("LA", [Pillow.fromarray(RAMP), Pillow.fromarray(HOLE)]).save(path)
    for fit in (False, True):
        signal = IMAGE.read(path, GREY, taker="the prior takes", fit=fit)
        assert torch.allclose(signal.x[0].double(), torch.where(seen, WANT, 1), atol=1e-6)
        # Catches: white in place of what nobody saw, without a word.
        assert signal.said == (
            "a.png is transparent in 18.4 % of its pixels, through which white paper is seen.",
        )
        for task in ("denoise", "inpaint"):
            options = {"mask": str(path)} if task == "inpaint" else {}
            given = IMAGE.degradation(task, GREY, options, source=Source(path, fit=fit))
            y = IMAGE.read_measurement(path, given, taker="it measures", std=0.1, fit=fit).x
            want = WANT[seen] if task == "inpaint" else torch.where(seen, WANT, 1)[None]
            assert torch.allclose(y.double(), want, atol=1e-6)


def masks() -> dict[str, Pillow.Image]:
    def rgba(colour: int) -> Pillow.Image:
        plane = Pillow.fromarray(np.full_like(HOLE, colour))
        return Pillow.merge("RGBA", [plane] * 3 + [Pillow.fromarray(HOLE)])

    palette = Pillow.fromarray((HOLE > 0).astype("u1"), "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.info["transparency"] = 0
    return {
        "white and black": Pillow.fromarray(HOLE),
        "16 bits": Pillow.fromarray(HOLE.astype("u2") * 257),
        "alpha, black paint": rgba(0),
        "alpha, white paint": rgba(255),
        "grey and alpha": Pillow.merge("LA", [Pillow.fromarray(HOLE)] * 2),
        "palette": palette,
    }


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize(
    "name",
    [
        "white and black",
        "16 bits",
        "alpha, black paint",
        "alpha, white paint",
        "grey and alpha",
        "palette",
    ],
)
def test_a_hole_is_black_or_transparent(name: str, tmp_path: Path) -> None:
    # Catches: a transparent hole that is read as its complement, or not at all.
    masks()[name].save(tmp_path / "m.png")
    found = IMAGE.degradation("inpaint", GREY, {"mask": str(tmp_path / "m.png")})
    assert torch.equal(found.arrays["mask"], torch.from_numpy(HOLE == 255))
    assert found.operator.codomain.shape == (640,) and "mask" not in found.options


def test_masks_of_arrays_and_what_is_no_mask(tmp_path: Path) -> None:
    # Catches: a mask that hides nothing or is grey throughout, taken without a word.
    for kind in (">f8", "<f4", ">i2", "u1", "?", "g"):
        for array in (HOLE // 255, (HOLE // 255)[None]):
            np.save(tmp_path / "m.npy", array.astype(kind))
            found = IMAGE.degradation("inpaint", GREY, {"mask": str(tmp_path / "m.npy")})
            assert int(found.arrays["mask"].sum()) == 640
    np.save(tmp_path / "m.npy", HOLE)
    options = {"mask": str(tmp_path / "m.npy")}
    assert int(IMAGE.degradation("inpaint", GREY, options).arrays["mask"].sum()) == 640
    for name, picture, sentence in (
        ("all.png", HOLE * 0 + 255, "has no hole"),
        ("none.png", HOLE * 0, "none.png is all hole: everything in it is black"),
        ("ones.png", HOLE // 255, r"holds the levels 0 and 1 of 255.*write 0 and 255"),
        ("grey.png", HOLE * 0 + 128, "is grey in 100% of its pixels"),
        ("small.png", HOLE[:20], "is 20 x 28; the picture is 28 x 28"),
    ):
        Pillow.fromarray(picture).save(tmp_path / name)
        with pytest.raises(po.InputError, match=sentence):
            IMAGE.degradation("inpaint", GREY, {"mask": str(tmp_path / name)})
    for values in (HOLE // 255 + 0.5, np.full((28, 28), np.nan), HOLE.astype("i4")):
        np.save(tmp_path / "odd.npy", values)
        with pytest.raises(po.InputError, match="other values than 0"):
            IMAGE.degradation("inpaint", GREY, {"mask": str(tmp_path / "odd.npy")})


def test_a_mask_is_fitted_like_its_picture(tmp_path: Path) -> None:
    # Catches: a mask drawn on a picture that is refused, or hides another place, once that is cropped.
    wide = np.full((56, 80), 255, "u1")
    wide[16:40, 28:52] = 0
    Pillow.fromarray(wide).save(tmp_path / "both.png")
    Pillow.fromarray(255 - wide).save(tmp_path / "photo.png")
    options = {"mask": str(tmp_path / "both.png")}
    clean = Source(tmp_path / "photo.png", fit=True, simulate=True)
    mask = IMAGE.degradation("inpaint", GREY, options, source=clean).arrays["mask"]
    assert torch.equal(mask, torch.from_numpy(HOLE == 255))
    # Catches: a rim of the hole's colour that is taken for the measurement once both are resized.
    source = Source(tmp_path / "photo.png", fit=True)
    found = IMAGE.degradation("inpaint", GREY, options, source=source)
    y = IMAGE.read_measurement(source.path, found, taker="it measures", std=0.1, fit=True).x
    assert (y + 1).abs().max() < 0.01 and len(y) < 640
    with pytest.raises(po.InputError, match="is 56 x 80; the picture is 28 x 28"):
        IMAGE.degradation("inpaint", GREY, options)
    # Catches: a mask that is called too large where it is the prior that takes small pictures.
    source = Source(tmp_path / "photo.png")
    with pytest.raises(
        po.InputError, match=r"photo\.png and its mask are 56 x 80 pixels; 28 x 28 are taken"
    ):
        IMAGE.degradation("inpaint", GREY, options, source=source)


def test_arrays_are_scaled_by_their_depth_or_refused(tmp_path: Path) -> None:
    # Catches: bytes, or values in [0, 1], taken for data in [-1, 1] (a PSNR of 31 dB for nothing).
    path, x = tmp_path / "x.npy", RAMP / 127.5 - 1
    for array in (x, x.astype(">f4"), x.astype("g"), RAMP, DEEP, DEEP.astype(">u2"), x[..., None]):
        np.save(path, array)
        assert torch.allclose(read(path)[0].double(), WANT, atol=1e-6)
    np.save(path, np.stack([x, x.T, -x], -1))
    assert torch.allclose(read(path, COLOUR).double(), torch.stack([WANT, WANT.T, -WANT]))
    for array, sentence in (
        (RAMP / 255, r"from 0 to 1; is it in \[0, 1\]"),
        (RAMP.astype("f4"), "from 0 to 255; black is -1"),
        (RAMP.astype("i8"), "int64 values, whose range is not known"),
        (RAMP > 99, "bool values, whose range is not known"),
        (x * np.nan, "NaN or infinite"),
        (x[:20], r"has shape \(20, 28\); the prior takes \(1, 28, 28\)"),
        (x.astype("c16"), "complex128 values; real numbers"),
    ):
        np.save(path, array)
        with pytest.raises(po.InputError, match=sentence):
            read(path)


def test_damaged_archives(tmp_path: Path) -> None:
    # Catches: zipfile's and zlib's errors, which reach the user.
    x = np.random.default_rng(0).uniform(-1, 1, GREY)
    np.savez(tmp_path / "good.npz", truth=x)
    np.savez_compressed(tmp_path / "small.npz", truth=x)
    np.savez(tmp_path / "none.npz")
    np.savez(tmp_path / "two.npz", a=x, b=x)
    np.save(tmp_path / "UPPER.NPY.npy", x)
    (tmp_path / "UPPER.NPY.npy").rename(tmp_path / "UPPER.NPY")
    for name in ("good.npz", "small.npz", "UPPER.NPY"):
        assert np.array_equal(read_array(tmp_path / name, "truth"), x)
    good, small = ((tmp_path / f"{name}.npz").read_bytes() for name in ("good", "small"))
    broken = {
        "half": good[: len(good) // 2],
        "nothing": b"",
        "flipped": good[:300] + bytes([good[300] ^ 255]) + good[301:],
        "flipped-small": small[:200] + bytes([small[200] ^ 255]) + small[201:],
    }
    for name, content in broken.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(po.InputError, match=f"{name}.npz cannot be read as an array"):
            read_array(tmp_path / f"{name}.npz", "truth")
    with pytest.raises(po.InputError, match="holds no array"):
        read_array(tmp_path / "none.npz", "truth")
    with pytest.raises(po.InputError, match="the arrays a, b; name the one to use 'truth'"):
        read_array(tmp_path / "two.npz", "truth")


def test_a_measurement_has_the_shape_of_the_operator(tmp_path: Path) -> None:
    # Catches: a small or grey picture that cannot be the measurement of sr or grey, whatever one does.
    small = RAMP.reshape(7, 4, 7, 4).mean((1, 3)).round().astype("u1")
    Pillow.fromarray(small).save(tmp_path / "small.png")
    np.save(tmp_path / "small.npy", small / 127.5 - 1)
    sr = IMAGE.degradation("sr", GREY, {"factor": "4"})
    for name in ("small.png", "small.npy"):
        y = IMAGE.read_measurement(tmp_path / name, sr, taker="it measures", std=0.05).x
        assert torch.allclose(y[0].double(), torch.from_numpy(small / 127.5 - 1), atol=1e-6)
    Pillow.fromarray(RAMP).save(tmp_path / "grey.png")
    grey = IMAGE.degradation("grey", COLOUR, {})
    y = IMAGE.read_measurement(tmp_path / "grey.png", grey, taker="it measures", std=0.05).x
    assert torch.allclose(y[0].double(), WANT, atol=1e-6)
    with pytest.raises(po.InputError, match="28 x 28 pixels; it measures 7 x 7"):
        IMAGE.read_measurement(tmp_path / "grey.png", sr, taker="it measures", std=0.05)
    phase = IMAGE.degradation("phase", GREY, {})
    with pytest.raises(po.InputError, match="which no picture holds"):
        IMAGE.read_measurement(tmp_path / "grey.png", phase, taker="it measures", std=0.05)
    np.save(tmp_path / "bytes.npy", RAMP.astype("f4"))
    whole = IMAGE.degradation("denoise", GREY, {})
    with pytest.raises(po.InputError, match="values from 0 to 255"):
        IMAGE.read_measurement(tmp_path / "bytes.npy", whole, taker="it measures", std=0.05)
    half = IMAGE.degradation("inpaint", GREY, {"mask": "half"})
    np.save(tmp_path / "list.npy", WANT.numpy()[:, :14].flatten())
    listed = IMAGE.read_measurement(tmp_path / "list.npy", half, taker="it measures", std=0.05).x
    holes = WANT.numpy().copy()
    holes[:, 14:] = np.nan
    np.save(tmp_path / "holes.npy", holes)
    assert torch.equal(
        IMAGE.read_measurement(tmp_path / "holes.npy", half, taker="it measures", std=0.05).x,
        listed,
    )


def test_a_measurement_with_holes_is_its_own_mask(tmp_path: Path) -> None:
    # Catches: NaN in the holes, which is what a scientist has, that is no mask.
    seen = torch.from_numpy(HOLE == 255)
    values = np.where(HOLE == 255, RAMP / 127.5 - 1, np.nan)
    np.save(tmp_path / "holes.npy", values)
    np.save(tmp_path / "channel.npy", values[None])
    Pillow.merge("LA", [Pillow.fromarray(RAMP), Pillow.fromarray(HOLE)]).save(tmp_path / "a.png")
    for name in ("holes.npy", "channel.npy", "a.png"):
        half = IMAGE.degradation("inpaint", GREY, {"mask": str(tmp_path / name)})
        assert torch.equal(half.arrays["mask"], seen)
        y = IMAGE.read_measurement(tmp_path / name, half, taker="it measures", std=0.05).x
        assert torch.allclose(y.double(), WANT[seen], atol=1e-6)


def test_a_kernel_of_one_s_own(tmp_path: Path) -> None:
    # Catches: a kernel that brightens the picture, is mirrored, or is read in the units of pictures.
    kernel = np.arange(15.0).reshape(3, 5)
    np.save(tmp_path / "k.npy", kernel)
    Pillow.fromarray(kernel.astype("u1")).save(tmp_path / "k.png")
    point = -torch.ones(1, 9, 9, dtype=torch.float64)
    point[0, 4, 4] = 1
    for name in ("k.npy", "k.png"):
        blur = IMAGE.degradation("blur", (1, 9, 9), {"kernel": str(tmp_path / name)})
        spread = (blur.operator(point) + 1) / 2
        assert torch.allclose(spread[0, 3:6, 2:7], torch.from_numpy(kernel / 105))
        assert float(spread.sum()) == pytest.approx(1)
    for values, sentence in (
        (kernel[None], r"has shape \(1, 3, 5\)"),
        (0 * kernel, "sum 0"),
        (np.nan * kernel, "sum nan"),
    ):
        np.save(tmp_path / "odd.npy", values)
        with pytest.raises(po.PosteriaError, match=sentence):
            IMAGE.degradation("blur", (1, 9, 9), {"kernel": str(tmp_path / "odd.npy")})
    with pytest.raises(
        po.InputError, match="no kernel 'gausian'; there are gaussian, motion, shake, FILE"
    ):
        IMAGE.degradation("blur", (1, 9, 9), {"kernel": "gausian"})


def test_options_of_tasks() -> None:
    # Catches: an option of another task, or a value of another type, ignored without a word.
    found = IMAGE.degradation("inpaint", GREY, {"mask": "random", "share": 1}, seed=7)
    assert found.options == {"mask": "random", "share": 1.0, "seed": 7} and not found.arrays
    for task, options, sentence in (
        ("inpant", {}, "no task 'inpant'.*Did you mean 'inpaint'"),
        ("inpaint", {"factor": 4}, "no option of the task 'inpaint' 'factor'"),
        ("denoise", {"factor": 4}, "no option of the task 'denoise' 'factor'"),
        ("sr", {"factor": "two"}, "factor takes int, such as 4; 'two' is not one"),
        ("sr", {"factor": True}, "factor takes int"),
        ("sr", {"factor": 2.5}, "factor takes int"),
        ("inpaint", {"mask": 3}, "mask takes str"),
        ("blur", {"blur": float("inf")}, "blur takes a finite number"),
    ):
        with pytest.raises(po.InputError, match=sentence):
            IMAGE.degradation(task, GREY, options)


def test_metrics_pair_samples_with_their_truth() -> None:
    truth = WANT.float()[None]
    samples = torch.stack([truth, truth + 0.1])
    scores = IMAGE.metrics(truth, samples[1:] - 0.2)
    error = (truth - (truth - 0.1).clamp(-1, 1)).square().mean()
    assert scores["psnr"].tolist() == pytest.approx([float(10 * (4 / error).log10())], abs=1e-3)
    assert scores["ssim"].shape == (1,)


def test_a_modality_is_what_the_card_says_and_never_guessed_from_a_shape() -> None:
    # Catches: any (8, time) that is taken for an ECG in mV, any (4, time) for stems of some rate.
    plain = Card(name="mine", reader="local", path=".")
    assert modality_of(po.Space(GREY), "digits", plain) is IMAGE
    for shape in ((8, 1024), (4, 1024), (1, 1024)):
        with pytest.raises(
            po.CapabilityError, match=r"'mine' draws.*says so in card.toml: modality"
        ):
            modality_of(po.Space(shape), "mine", plain)
    with pytest.raises(po.CapabilityError, match="the modality 'film' does not read"):
        modality_of(po.Space(GREY), "mine", replace(plain, modality="film"))
    ecg = replace(plain, modality="ecg", data=Data(units="mV", rate=100.0))
    assert modality_of(po.Space((8, 500)), "mine", ecg) is MODALITIES["ecg"]
    for data in (Data(units="mV"), Data(rate=100.0), Data(units="mV", rate=500.0)):
        with pytest.raises(
            po.InputError, match=r"in mV at 100 Hz, and the card of the prior 'mine' says"
        ):
            modality_of(po.Space((8, 500)), "mine", replace(ecg, data=data))
