"""Ship a trained `photo`: `python training/photo_export.py --data DIR --run DIR --out DIR`.

Writes the average of the weights in half precision, its card with hash and training curve, and the credits.
"""

import torch

from data.photographs import photographs
from photo import BLOCKS, LEVELS, RECIPE, SIDE, build
from shipping import command, curve, read_log, write_network, write_page

CARD = """name = "photo"
reader = "local"
modality = "image"
about = "colour photographs of any size (a local U-Net without attention or normalisation)"
sha256 = "{sha256}"
licence = "data CC BY 2.0, CC BY 4.0, CC0 and public domain, credited in \
CREDITS.txt; weights Apache-2.0"
cite = "Karras, Aittala, Aila, Laine, Elucidating the Design Space of Diffusion-Based Generative Models, \
NeurIPS 2022, arXiv:2206.00364"
notes = "Flowers and 48 scenes; it knows edges, textures and blur, and no object. README.md has what was measured."

[data]
units = "[-1, 1]"
"""
PAGE = """# photo

A prior of colour photographs of any size: EDM's preconditioning around a U-Net of {size:.1f} million numbers that sees
{reach} pixels far, without attention and without normalisation over space, so that a picture in windows is the picture.

| | |
|---|---|
| data | {small} flowers of 240 pixels by photographers of the training part and {large} \
scenes of up to 1024 pixels, none of them share-alike; CREDITS.txt has all of them |
| recipe | `training/photo.py`: crops of {side} x {side} pixels, scaled, flipped, turned, \
one in ten grey; batches of {batch} |
| training | {seen} crops, {minutes} minutes on {how}; it resumes |
| values | in [-1, 1] |
| weights | half precision, sha256 {sha256} |

Mean PSNR in dB of {held} flowers of held-out photographers as training went on
(the middle 128 x 128 pixels of one in eight):

{curve}

`docs/photographs.md` has it beside other denoisers and restorations.
"""


def main() -> None:
    """The command line."""
    options = command(__doc__)
    data, out = photographs(options.data, SIDE), options.out
    # Of the pixels of the flowers, in [-1, 1].
    pixels = torch.cat([picture.flatten()[::97] for picture in data.small]).float() / 127.5 - 1
    sha256 = write_network(
        options.run,
        out,
        CARD,
        kind="unet",
        widths=RECIPE.channels,
        blocks=BLOCKS,
        patch=RECIPE.patch,
        mean=round(float(pixels.mean()), 3),
        std=round(float(pixels.std()), 3),
    )
    flowers = (options.data / "licences" / "flower_photos.LICENSE.txt").read_text()
    scenes = "\n".join(sorted(data.credits))
    (out / "CREDITS.txt").write_text(f"Scenes\n\n{scenes}\n\nFlowers\n\n{flowers}")
    columns = [f"noise {level} of 255" for level in LEVELS]
    write_page(
        options,
        PAGE,
        RECIPE,
        build(),
        sha256,
        small=len(data.small),
        large=len(data.large),
        side=SIDE,
        held=len(data.middle(128)[::8]),
        curve=curve(read_log(options.run), "crops", columns, "psnr"),
    )


if __name__ == "__main__":
    main()
