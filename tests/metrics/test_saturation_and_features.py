"""Agreement and saturation against counts by hand, and the networks whose features are compared."""

import colorsys
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import posteria as po
from helpers import F64, normal
from posteria.guidance.classifiers.classifier import CleanClassifier
from posteria.metrics.diversity import (
    classifier_agreement,
    saturation,
)
from posteria.metrics.features import DINOv2, Flat, Inception, Penultimate, load_features


def signs() -> CleanClassifier:
    """Class 0 left of 0, class 1 right of it."""
    return CleanClassifier(lambda x: torch.stack([-x[:, 0], x[:, 0]], -1), po.Space((1,), F64), 2)


def test_agreement() -> None:
    # Catches: NaN, whose argmax is a class; a last batch that counts as much as the others.
    x = torch.tensor([-1, 2, 3, math.nan, 5], dtype=F64)[:, None]
    assert classifier_agreement(signs(), x, 1) == pytest.approx(3 / 5)
    assert classifier_agreement(signs(), x, 0) == pytest.approx(1 / 5)
    each = torch.tensor([0, 1, 0, 0, 1])
    assert classifier_agreement(signs(), x, each, batch=2) == pytest.approx(3 / 5)
    with pytest.raises(po.InputError, match="from 0 to 1"):
        classifier_agreement(signs(), x, 2)
    with pytest.raises(po.ShapeError, match="one label or 5"):
        classifier_agreement(signs(), x, torch.tensor([0, 1]))
    with pytest.raises(po.InputError, match="at least 1"):
        classifier_agreement(signs(), x[:0], 1)
    with pytest.raises(po.InputError, match="Labels are integers"):
        classifier_agreement(signs(), x, 0.5)  # type: ignore[arg-type]
    with pytest.raises(po.InputError, match="batch is an integer"):
        classifier_agreement(signs(), x, 1, batch=0)


def test_saturation_by_hand() -> None:
    # Four pixels: black, red, half-saturated red, and one that is beyond the range.
    pixels = torch.tensor([
        [-1.0, -1.0, -1.0],
        [1.0, -1.0, -1.0],
        [0.5, -0.25, -0.25],
        [3.0, 1.0, -0.5],
    ])
    found = saturation(pixels.mT.reshape(1, 3, 2, 2))
    assert found.clipped == pytest.approx((3 + 3 + 0 + 2) / 12)
    assert found.colour == pytest.approx((0 + 1 + 0.5 + 0.75) / 4)
    grey = saturation(torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4))
    assert grey == (2 / 16, 0)
    with pytest.raises(po.ShapeError, match="channels, height, width"):
        saturation(pixels)
    with pytest.raises(po.InputError, match=r"of floats, not of torch\.uint8"):
        saturation(torch.ones(1, 3, 2, 2, dtype=torch.uint8))


def test_saturation_is_that_of_hsv() -> None:
    x = normal(3, 3, 5, 4).clamp(-1, 1)
    pixels = ((x + 1) / 2).permute(0, 2, 3, 1).reshape(-1, 3).tolist()
    expected = sum(colorsys.rgb_to_hsv(*pixel)[1] for pixel in pixels) / len(pixels)
    assert saturation(x).colour == pytest.approx(expected)


# Features


def test_flat_and_penultimate() -> None:
    x = normal(5, 1, 2, 3)
    assert torch.equal(Flat()(x), x.reshape(5, 6))

    class Net(nn.Module):
        def features(self, x: Tensor) -> Tensor:
            return 2 * x[:, 0]

        def forward(self, x: Tensor) -> Tensor:
            return self.features(x)

    features = Penultimate(CleanClassifier(Net(), po.Space((3,), F64), 2), batch=2)
    assert torch.equal(features(normal(5, 3)), 2 * normal(5, 3)[:, 0])
    with pytest.raises(po.ShapeError, match="x has shape"):
        features(normal(5, 4))
    with pytest.raises(po.CapabilityError, match="Penultimate needs a FeatureNetwork"):
        Penultimate(signs())


class Seen(nn.Module):
    """Stands in for a network, and keeps what it was shown."""

    def forward(self, x: Tensor | None = None, pixel_values: Tensor | None = None) -> Any:
        if pixel_values is not None:
            return SimpleNamespace(last_hidden_state=pixel_values.flatten(2).mT)
        assert x is not None
        assert x.dtype == torch.uint8
        return (x.flatten(1).float(),)


def test_what_inception_is_shown() -> None:
    # Catches: bytes that are cut off and not rounded, that wrap around beyond the range, or that are
    # floats; one channel where there are three.
    x = torch.tensor([-3.0, -1.0, -0.001, 0.003, 0.999, 1.0]).reshape(6, 1, 1, 1)
    found = Inception(Seen(), "cpu", batch=4)(x)
    assert found.tolist() == [[v] * 3 for v in (0, 0, 127, 128, 255, 255)]
    # Pictures that diverged are not black ones.
    x[2], x[3] = math.nan, math.inf
    assert Inception(Seen(), "cpu", batch=4)(x).isnan().all(1).tolist() == [0, 0, 1, 1, 0, 0]
    # Bytes, as other packages want them, would all be white but 0.
    with pytest.raises(po.InputError, match=r"of floats, not of torch\.uint8"):
        Inception(Seen(), "cpu", batch=4)(torch.full((1, 3, 1, 1), 7, dtype=torch.uint8))
    with pytest.raises(po.ShapeError, match="1 or 3 channels"):
        Inception(Seen(), "cpu", batch=4)(x.reshape(3, 2, 1, 1))


def test_what_dinov2_is_shown() -> None:
    # Catches: the range [-1, 1] taken for [0, 1], mean and standard deviation swapped, no resizing.
    look = DINOv2(Seen(), "cpu", batch=2)
    x = torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1).expand(3, 1, 7, 9)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (torch.tensor([0.0, 0.5, 1.0])[:, None] - mean) / std
    assert torch.allclose(look(x), expected, atol=1e-5)
    sharp = normal(1, 3, 224, 224).float().clamp(-1, 1)
    assert torch.allclose(look(sharp), ((sharp[..., 0, 0] + 1) / 2 - mean) / std, atol=1e-5)


def test_dinov2_from_a_folder(tmp_path: Path) -> None:
    # Catches: patches in place of the class token, a picture's features that depend on its batch.
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    model = transformers.Dinov2Model(config).eval()
    model.save_pretrained(tmp_path)
    features = load_features("dinov2", source=tmp_path, batch=2)
    x = normal(3, 3, 224, 224).float().clamp(-1, 1)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        expected = model(pixel_values=((x + 1) / 2 - mean) / std).pooler_output
    assert features(x).shape == (3, 16)
    assert torch.allclose(features(x), expected, atol=1e-4)
    assert torch.allclose(features(x[2:]), features(x)[2:], atol=1e-5)
    with pytest.raises(po.InputError, match="cannot be had from"):
        load_features("dinov2", source=tmp_path / "nothing")


def test_inception_from_a_file(tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Net

    bare = Net.__new__(Net)
    weights = tmp_path / "weights.pth"
    # The class reads weights when it is made; these are the ones it was made with.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: None)
        patch.setattr(Net, "load_state_dict", lambda *_, **__: None)
        torch.manual_seed(0)
        bare = Net("inception", ["2048"], str(weights))
    torch.save(bare.state_dict(), weights)
    features = load_features("inception", source=weights, batch=1)
    x = normal(2, 3, 40, 40).float().clamp(-1, 1)
    with torch.no_grad():
        expected = bare(((x + 1) * 127.5).round().byte())[0]
    assert expected.shape == (2, 2048)
    assert torch.allclose(features(x), expected, rtol=1e-3, atol=1e-4)
    weights.write_bytes(b"cut short")
    with pytest.raises(po.InputError, match="cannot be had from"):
        load_features("inception", source=weights)


@pytest.mark.parametrize(
    ("name", "package"), [("dinov2", "transformers"), ("inception", "torch_fidelity")]
)
def test_what_is_missing_is_said(name: str, package: str, monkeypatch: Any) -> None:
    for module in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        po.CapabilityError, match=rf"need {package}.*: pip install 'posteria\[features\]'\."
    ):
        load_features(name)
    with pytest.raises(po.InputError, match="Did you mean 'dinov2'"):
        load_features("dino")
    with pytest.raises(po.InputError, match="batch is an integer of at least 1; 0 is not"):
        load_features(name, batch=0)
