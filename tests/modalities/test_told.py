"""What a picture says of its own damage: its noise, and the compression of a JPEG file."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import posteria as po
from posteria.modalities import MODALITIES, Source
from posteria.modalities.image.heads import compression_of
from posteria.modalities.image.modality import ONE_NOISE
from posteria.modalities.image.noise import estimate_noise
from posteria.operators import JPEG

IMAGE = MODALITIES["image"]


def scene(height: int, width: int) -> torch.Tensor:
    """Hills with edges and a texture, `[3, height, width]` in (-0.6, 0.6)."""
    y, x = np.mgrid[:height, :width] / 40.0
    hills = np.sin(x) * np.cos(0.7 * y) + (x + y > 4) * 0.5
    texture = np.where(x > 3, np.sin(40 * x) * np.sin(37 * y), 0)
    planes = [0.3 * hills + 0.15 * texture + shift for shift in (-0.05, 0.0, 0.05)]
    return torch.from_numpy(np.stack(planes))


@pytest.mark.parametrize("level", [5, 15, 25, 50])
def test_the_noise_of_a_picture_is_estimated_to_a_tenth(level: int) -> None:
    # Catches: a texture that is taken for noise, the units of another range, holes that count as pixels.
    x, sigma = scene(150, 200), 2 * level / 255
    rng = torch.Generator().manual_seed(level)
    y = x + sigma * torch.randn(x.shape, generator=rng, dtype=x.dtype)
    assert estimate_noise(y) == pytest.approx(sigma, rel=0.1)
    hole = torch.zeros(150, 200, dtype=torch.bool)
    hole[20:50, 10:90] = True
    assert estimate_noise(y.masked_fill(hole, torch.nan)) == pytest.approx(sigma, rel=0.1)
    # The seen pixels of a mask, and what was measured of them.
    inpaint = po.operators.Inpainting(~hole, (3, 150, 200))
    found = IMAGE.degradation("denoise", (3, 150, 200), {})
    listed = type(found)("inpaint", inpaint, {}, {})
    assert IMAGE.estimated(inpaint(y), listed) == estimate_noise(y.masked_fill(hole, torch.nan))


def test_the_estimate_of_noise_alone_is_unbiased() -> None:
    # Catches: a choice of windows that favours weak noise. One standard error is 0.4 %.
    rng = torch.Generator().manual_seed(0)
    found = [estimate_noise(0.1 * torch.randn(1, 128, 128, generator=rng)) for _ in range(40)]
    assert np.mean(np.square(found)) == pytest.approx(0.01, rel=0.02)


def test_where_no_noise_can_be_estimated() -> None:
    # Catches: a noise level of 0, which no sampler takes, and clipped noise that counts as none.
    assert estimate_noise(scene(60, 60) * 0) == pytest.approx(2 / 255)
    rng = torch.Generator().manual_seed(0)
    bright = (0.9 + 0.2 * torch.randn(1, 200, 200, generator=rng)).clamp(-1, 1)
    with pytest.raises(po.InputError, match=r"Too many pixels .* are black or white"):
        estimate_noise(bright)
    # Catches: a picture of two levels of which too little is said to be seen.
    with pytest.raises(po.InputError, match="where noise is clipped"):
        estimate_noise(scene(60, 60).sign())
    for side in (1, 9):
        with pytest.raises(po.InputError, match="say by --sigma how much"):
            estimate_noise(torch.zeros(3, side, side))
    phase = IMAGE.degradation("phase", (1, 28, 28), {})
    with pytest.raises(po.InputError, match="which the task 'phase' does not measure"):
        IMAGE.estimated(torch.zeros(1, 42, 42), phase)


@pytest.mark.parametrize("colours", ["L", "RGB"])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(colours: str, tmp_path: Path) -> None:
    # Catches: a scale that libjpeg rounds and we do not, tables in another order.
    picture = Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32)).astype("u1"))
    for quality in range(10, 96):
        picture.convert(colours).save(tmp_path / "a.jpg", quality=quality)
        assert compression_of(tmp_path / "a.jpg") == (quality, "4:2:0", True, False)
    for sampling, name in ((0, "4:4:4"), (1, "4:2:2"), (2, "4:2:0")):
        picture.convert("RGB").save(tmp_path / "a.jpg", quality=80, subsampling=sampling)
        found = compression_of(tmp_path / "a.jpg")
        assert found is not None and found.sampling == name
    picture.save(tmp_path / "odd.jpg", qtables=[[7] * 64])
    odd = compression_of(tmp_path / "odd.jpg")
    assert odd is not None and not odd.exact and odd.quality > 80
    picture.save(tmp_path / "a.png")
    assert compression_of(tmp_path / "a.png") is None


@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_the_operator_is_the_compression_of_the_file(sampling: int) -> None:
    # Catches: colours averaged over the wrong axis. libjpeg smooths colours as it enlarges them, and rounds.
    x = torch.nn.functional.avg_pool2d(scene(68, 84), 5, 1)
    picture = ((x + 1) * 127.5).round().byte()
    buffer = io.BytesIO()
    Pillow.fromarray(picture.permute(1, 2, 0).numpy()).save(
        buffer, "JPEG", quality=40, subsampling=sampling
    )
    want = torch.from_numpy(np.array(Pillow.open(buffer))).permute(2, 0, 1) / 127.5 - 1
    blocks = ((1, 1), (1, 2), (2, 2))[sampling]
    y = JPEG(40, x.shape, subsample=blocks)(picture.double() / 127.5 - 1)
    assert (y - want).abs().mean() < 1.5 / 127.5


def test_a_jpeg_file_tells_its_quality_and_no_other_does(tmp_path: Path) -> None:
    picture = Pillow.fromarray(np.full((16, 16, 3), 99, "u1"))
    path = tmp_path / "photo.jpg"
    picture.save(path, quality=37, subsampling=0)

    def found(**options: str) -> dict[str, object]:
        made = IMAGE.degradation("jpeg", (3, 16, 16), options, source=Source(path))
        said.extend(made.said)
        return dict(made.options)

    said: list[str] = []
    assert found() == {"quality": 37, "sampling": "4:4:4"}
    assert said == ["photo.jpg tells its compression: its tables are those of quality 37."]
    fitted = IMAGE.degradation("jpeg", (3, 8, 8), {}, source=Source(path, fit=True))
    with pytest.raises(po.InputError, match=r"would resize .* and with it the blocks"):
        IMAGE.read_measurement(path, fitted, taker="it measures", std=0.1, fit=True)
    assert found(quality="50") == {"quality": 50, "sampling": "4:4:4"}
    path = tmp_path / "photo.png"
    picture.save(path)
    with pytest.raises(po.InputError, match=r"photo.png is no JPEG file.*say that by --quality"):
        found()
    clean = IMAGE.degradation("jpeg", (3, 16, 16), {}, source=Source(path, simulate=True))
    assert clean.options == {"quality": 10, "sampling": "4:2:0"}


def test_grey_and_colour_are_converted_with_a_word(tmp_path: Path) -> None:
    # Catches: a grey scan that a prior of colours refuses, or a conversion without a word.
    grey = np.random.default_rng(0).integers(0, 255, (16, 16)).astype("u1")
    Pillow.fromarray(grey).save(tmp_path / "grey.png")
    whole = IMAGE.degradation("denoise", (3, 16, 16), {})
    signal = IMAGE.read_measurement(tmp_path / "grey.png", whole, taker="the prior takes", std=0.1)
    said = "grey.png is in grey and is taken in colour: the prior takes that."
    assert signal.said == (said,)
    assert torch.equal(signal.x, torch.from_numpy(grey / np.float32(127.5) - 1).expand(3, 16, 16))


def test_the_one_noise_of_a_grey_file_becomes_independent_in_the_colours(tmp_path: Path) -> None:
    # Catches: one noise that counts as three measurements, noise that moves the mean of the colours, a level without
    # its root of 3, a mask's pixels in another order, colours (or values in cells) that get noise.
    shape, s = (3, 120, 150), 0.1
    rng = torch.Generator().manual_seed(0)
    clean = 0.3 * scene(*shape[1:]).mean(0, keepdim=True).float()
    noisy = clean + s * torch.randn(1, *shape[1:], generator=rng)
    Pillow.fromarray((noisy[0].numpy() + 1) / 2).save(tmp_path / "grey.tif")
    mask = torch.rand(shape[1:], generator=rng) < 0.7

    def read(task: str, file: str = "grey.tif", **options: object) -> tuple[torch.Tensor, ...]:
        made = IMAGE.degradation(task, shape, options)
        signal = IMAGE.read_measurement(tmp_path / file, made, taker="it measures", std=s)
        independent, std = IMAGE.independent(signal, made, s, seed=5)
        assert (ONE_NOISE in independent.said) == (std != s)
        return signal.x, independent.x, torch.tensor(std)

    before, y, std = read("denoise")
    assert torch.allclose(y.mean(0), before[0], atol=1e-6) and float(std) == pytest.approx(
        0.3**0.5 / 10**0.5
    )
    off = (y - clean).flatten(1).double()
    cov = off @ off.T / off.shape[1]
    # One standard error of an entry is 0.75 % of the diagonal.
    assert torch.allclose(cov / s**2, 3 * torch.eye(3).double(), atol=0.1)
    # On a law that knows that the picture is grey, three such measurements say what the one file does.
    prior, value = 0.04 * torch.ones(3, 3).double(), y[:, 60, 70].double()
    gain = prior @ torch.linalg.inv(prior + std.double() ** 2 * torch.eye(3).double())
    one = 0.04 / (0.04 + s**2)
    assert torch.allclose(gain @ value, one * before[:, 60, 70].double(), atol=1e-5)
    assert torch.allclose(prior - gain @ prior, (1 - one) * prior, atol=1e-6)
    assert torch.equal(read("inpaint", mask=mask)[1].reshape(3, -1), y[:, mask])
    assert torch.equal(*read("quantize")[:2]) and torch.equal(*read("clip")[:2])
    Pillow.fromarray(np.zeros((120, 150, 3), "u1")).save(tmp_path / "colour.png")
    assert torch.equal(*read("denoise", "colour.png")[:2])


def test_measured_kernels_have_even_sides(tmp_path: Path) -> None:
    # Catches: a measured kernel of even sides that is refused, or moves the picture by a pixel.
    point = -torch.ones(1, 9, 9, dtype=torch.float64)
    point[0, 4, 4] = 1
    np.save(tmp_path / "even.npy", np.eye(4)[2][:, None] * np.eye(6)[3])
    blur = IMAGE.degradation("blur", (1, 9, 9), {"kernel": str(tmp_path / "even.npy")})
    assert torch.allclose(blur.operator(point), point)
    assert blur.said[0].startswith("The kernel even.npy is 4 x 6: the centre of its even sides")
    with pytest.raises(
        po.ShapeError, match=r"two odd sides.*functional\.pad\(kernel, \(0, 0, 0, 1\)"
    ):
        po.operators.Blur(torch.ones(4, 5) / 20, (1, 9, 9))
    (tmp_path / "k.csv").write_text("0,1,0")
    with pytest.raises(po.InputError, match=r"or an array as \.npy"):
        IMAGE.degradation("blur", (1, 9, 9), {"kernel": str(tmp_path / "k.csv")})
