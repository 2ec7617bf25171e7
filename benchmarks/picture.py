"""The picture of the README, from the folders of runs: `python benchmarks/picture.py RUN [RUN ...] OUT.png`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE, GAP, TEXT = 160, 8, 24


def panel(path: Path) -> Image.Image:
    """A picture of a run at the size of a panel."""
    with Image.open(path) as image:
        return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)


def panels(run: Path) -> list[tuple[Path, str]]:
    """Truth and measurement, four samples, mean and standard deviation, with their captions."""
    seeds = np.load(run / "samples.npz")["seeds"][:4]
    named = [("truth", "truth"), ("measurement", "measurement")]
    named += [(f"samples/{seed}", "samples" if i == 0 else "") for i, seed in enumerate(seeds)]
    named += [("mean", "mean"), ("std", "uncertainty")]
    return [(run / f"{name}.png", caption) for name, caption in named]


def main(runs: list[Path], out: Path) -> None:
    """A row for each run, with captions under the last."""
    rows = [panels(run) for run in runs]
    width, height = len(rows[0]) * (SIDE + GAP) + GAP, len(rows) * (SIDE + GAP) + TEXT + GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for i, row in enumerate(rows):
        for j, (path, caption) in enumerate(row):
            corner = (GAP + j * (SIDE + GAP), GAP + i * (SIDE + GAP))
            sheet.paste(panel(path), corner)
            if i == len(rows) - 1:
                draw.text((corner[0], height - TEXT - 5), caption, fill="black", font=font)
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main([Path(run) for run in sys.argv[1:-1]], Path(sys.argv[-1]))
