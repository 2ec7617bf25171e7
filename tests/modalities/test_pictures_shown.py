"""What figures show of a restoration, each of the size of its picture."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import posteria as po
from posteria.modalities import MODALITIES, Outcome
from posteria.modalities.image.pixels import to_bytes

IMAGE = MODALITIES["image"]
RAMP = torch.linspace(-1, 1, 28).expand(28, 28)
GREY, COLOUR = (1, 28, 28), (3, 28, 28)


def pixels_of(content: bytes) -> np.ndarray:
    with Pillow.open(io.BytesIO(content)) as picture:
        return np.asarray(picture)


def test_what_is_uncertain_is_told_in_grey_levels_where_pixels_are_missing() -> None:
    # Catches: seen pixels in the mean; a scale of its own in each run; values that no picture shows.
    seen = torch.ones(4, 4, dtype=torch.bool)
    seen[1, 2] = seen[3, 3] = False
    operator = po.operators.Inpainting(seen, (1, 4, 4))
    samples = torch.zeros(3, 1, 4, 4)
    samples[0, 0, 1, 2], samples[1, 0, 1, 2] = 4.0, -1.0
    samples[:, 0, 0, 0] = torch.tensor([-1.0, 0, 1])
    # At the pixel 1, 0 and -1: a standard deviation of 1, that is 127.5 of 255; none at the other.
    assert IMAGE.uncertainty(samples, operator) == (
        "±63.8 grey levels of 255 over the 2 missing pixels, ±128 at most"
    )
    assert IMAGE.uncertainty(samples, po.operators.Identity((1, 4, 4))).startswith("±15.9 grey")
    made = {
        f.name: f
        for f in IMAGE.figures(Outcome(samples, [5, 7, 9], operator, samples[0, 0][seen], 0.1))
    }
    shown = pixels_of(made["std.png"].content)
    assert (shown[..., 3] > 0).tolist() == (~seen).tolist()
    assert shown[3, 3, :3].tolist() == [0, 0, 4]
    assert np.abs(shown[1, 2, :3].astype(int) - [252, 255, 164]).max() <= 2
    # The two that differ most are 1 and -1, not those that differ where nothing is missing.
    assert set(made["difference.png"].of) == {"samples/5.png", "samples/7.png"}


@pytest.mark.parametrize("task", IMAGE.tasks)
def test_every_task_has_figures(task: str, tmp_path: Path) -> None:
    # Catches: a task that a report cannot show; a figure whose file is no picture.
    shape = COLOUR if task == "grey" else GREY
    operator = IMAGE.degradation(task, shape, {}).operator
    truth = RAMP.expand(shape).contiguous()
    samples = torch.stack([truth, truth + 0.1])
    outcome = Outcome(samples, [3, 5], operator, operator(truth), 0.1, truth)
    made = {figure.name: figure for figure in IMAGE.figures(outcome)}
    for figure in made.values():
        (tmp_path / "f.png").write_bytes(figure.content)
        with Pillow.open(tmp_path / "f.png") as picture:
            assert picture.size == figure.size[::-1]
            picture.verify()
    assert {"truth.png", "mean.png", "std.png", "samples/3.png", "samples/5.png"} <= made.keys()
    # Catches: a picture that is resampled on its way.
    assert np.array_equal(pixels_of(made["samples/3.png"].content), to_bytes(truth))


def test_a_mask_that_hides_nothing_leaves_a_spread_over_all_pixels() -> None:
    # Catches: a run that fails after its samples were drawn, with a traceback, since no pixel is missing.
    samples = torch.stack([torch.full(GREY, value) for value in (-0.1, 0.1)])
    whole = po.operators.Inpainting(torch.ones(GREY[1:], dtype=torch.bool), GREY)
    assert "over all pixels" in IMAGE.uncertainty(samples, whole)
