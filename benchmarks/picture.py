"""The picture of the README, from the folder of a run: `python benchmarks/picture.py RUN docs/restore.png`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE, GAP, TEXT = 128, 8, 24


def panel(path: Path) -> Image.Image:
    """A picture of the run at the size of a panel."""
    with Image.open(path) as image:
        return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)


def main(run: Path, out: Path) -> None:
    """Truth and measurement, six samples, mean and standard deviation, side by side."""
    seeds = np.load(run / "samples.npz")["seeds"][:6]
    panels = [("truth", "truth"), ("measurement", "measurement")]
    panels += [(f"samples/{seed}", "samples" if i == 0 else "") for i, seed in enumerate(seeds)]
    panels += [("mean", "mean"), ("std", "uncertainty")]
    width = len(panels) * (SIDE + GAP) + GAP
    sheet = Image.new("RGB", (width, SIDE + TEXT + 2 * GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for i, (name, caption) in enumerate(panels):
        left = GAP + i * (SIDE + GAP)
        sheet.paste(panel(run / f"{name}.png"), (left, GAP))
        draw.text((left, SIDE + GAP + 3), caption, fill="black", font=font)
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
