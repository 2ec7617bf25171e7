"""The study of photographs."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import photos


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
    found = photos.tables(photos.rows(tmp_path / "rows.jsonl"))["denoising"]
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
    for name in photos.SINGLE:
        Image.new("RGB", (300, 300), "white").save(tmp_path / "images" / name)
    found = photos.photographs(tmp_path)
    assert sorted(n for n in found if n not in photos.SINGLE) == ["b, left", "b, right"]
    assert torch.allclose(found["b, left"][0], torch.tensor(80 / 127.5 - 1))
