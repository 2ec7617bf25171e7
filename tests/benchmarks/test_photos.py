"""The study of photographs."""

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import photos
from photographs.pictures import SINGLE, photographs


def test_a_method_is_compared_with_the_picture_that_was_measured() -> None:
    # Catches: noise in other units, a kernel that shifts the picture, a proximal step that diverges.
    t = torch.linspace(0, 9, photos.PART)
    x = (t.sin()[:, None] * t.cos()).expand(photos.SHAPE) * 0.8
    for task, (_, std, build) in photos.TASKS.items():
        operator = build()
        y = operator(x[None])[0]
        y = y + std * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
        found = photos.by_hand(task, operator, y)
        assert found.shape == x.shape
        before = float(photos.psnr(found[None], x))
        assert before > (12 if task in {"jpeg", "quantize"} else 20), task
        if task in {"blur", "scratches"}:
            smoothed = photos.smooth(operator, y, found, 0.01, steps=8)
            assert float(photos.psnr(smoothed[None], x)) > before


def test_the_page_compares_the_pictures_that_all_have(tmp_path: Path) -> None:
    # Catches: a mean over easy pictures beside one over all.
    rows = [
        {
            "study": "denoise",
            "task": "25",
            "method": m,
            "picture": p,
            "psnr": 30.0 + i + 5 * (p == "c"),
        }
        for i, m in enumerate(("photo", "photo-bf", "FFDNet"))
        for p in ("a", "b", "c")
        if (m, p) != ("FFDNet", "c")
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = photos.tables(photos.rows(tmp_path / "rows.jsonl"), [25], {}, [])["denoising"]
    assert "| 25 (2 pictures) | 30.00 ± 0.00 | 31.00 ± 0.00 | 32.00 ± 0.00 |" in found


def test_the_photographs_are_of_no_recipe(tmp_path: Path) -> None:
    # Catches: a licence that lets a scene into both.
    import io

    names, licences = ["a", "b", "c"], ["CC0 1.0", "CC BY-SA 4.0", "CC BY 4.0"]
    parts = []
    for i in range(3):
        file = io.BytesIO()
        Image.new("RGB", (640, 520), (80 * i, 0, 0)).save(file, "webp", lossless=True)
        parts.append(file.getvalue())
    np.savez(
        tmp_path / "scenes_1024px.npz",
        webp=np.frombuffer(b"".join(parts), np.uint8),
        offset=np.cumsum([0, *map(len, parts)]),
        name=names,
        licence=licences,
    )
    (tmp_path / "images").mkdir()
    for name in SINGLE:
        Image.new("RGB", (300, 300), "white").save(tmp_path / "images" / name)
    found = photographs(tmp_path)
    assert sorted(n for n in found if n not in SINGLE) == ["b, left", "b, right"]
    assert torch.allclose(found["b, left"][0], torch.tensor(80 / 127.5 - 1))


def test_differences_are_those_of_the_same_pictures() -> None:
    # Catches: a mean of two taken for that of many, a method beside pictures that it did not see, a sign.
    def row(method: str, picture: str, psnr: float, one: float) -> photos.Row:
        key = {"study": "restore", "task": "blur", "method": method, "picture": picture}
        return key | {"psnr": psnr, "sample_psnr": one}

    # Errors of 2 for a sample and 1.5 for the mean of two: 1 for that of many.
    two, one = (-10 * math.log10(error) for error in (1.5, 2.0))
    kept = [row("mmps", p, two, one) for p in "abc"]
    # Catches: one estimate taken for two samples, since its PSNRs are rounded otherwise.
    kept += [row("total variation", p, two + 1, two + 1 + 1e-6) for p in "ab"]
    found = photos.tables(kept, [], {"blur": "a blur"}, ["mmps", "total variation"])
    assert "| a blur | -1.00 ± 0.00; 0.76 ± 0.00 (2) | - |" in found["differences"]
    (line,) = re.findall(r"\| total variation \|[^|]+\|([^|]+)", found["restoring"])
    assert line.strip() == "-"


def test_features_are_compared_at_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: a distance to another picture of the batch, or of lengths instead of directions.
    from photographs import features

    network = SimpleNamespace(
        _conv_stem=nn.Identity(),
        _bn0=nn.Identity(),
        _swish=nn.Identity(),
        _blocks=[nn.Identity()] * 16,
    )
    monkeypatch.setattr(features, "_network", lambda: network)
    monkeypatch.setattr(features, "find_spec", lambda name: True)
    x = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert features.feature_distance(torch.stack([x, 2 * x]), x) == pytest.approx(0, abs=1e-6)
    assert features.feature_distance(torch.stack([x, -x]), x) == pytest.approx(5 * 4 / 2, rel=1e-5)
