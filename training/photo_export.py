"""Ship a trained `photo`: `python training/photo_export.py --data DIR --run DIR --out DIR --how "..."`.

Writes the average of the weights in half precision, the numbers of its page, and the credits.
"""

import torch

from data.photographs import photographs
from photo import BLOCKS, LEVELS, RECIPE, SIDE, build
from shipping import command, curve, read_log, trained, write_network, write_page


def main() -> None:
    """The command line."""
    options = command(__doc__).parse_args()
    data, out = photographs(options.data, SIDE), options.out
    # Of the pixels of the flowers, in [-1, 1].
    pixels = torch.cat([picture.flatten()[::97] for picture in data.small]).float() / 127.5 - 1
    config = {"kind": "unet", "widths": RECIPE.channels, "blocks": BLOCKS, "patch": RECIPE.patch}
    mean, std = (round(float(value), 3) for value in (pixels.mean(), pixels.std()))
    sha256 = write_network(options.run, out, **config, mean=mean, std=std)
    flowers = (options.data / "licences" / "flower_photos.LICENSE.txt").read_text()
    scenes = "\n".join(sorted(data.credits))
    (out / "CREDITS.txt").write_text(f"Scenes\n\n{scenes}\n\nFlowers\n\n{flowers}")
    held = len(data.middle(128)[::8])
    of = f"{len(data.small)} flowers and {len(data.large)} scenes; {held} flowers held out"
    columns = [f"noise {level} of 255" for level in LEVELS]
    errors = curve(read_log(options.run), "crops", columns, "psnr")
    write_page(out, {"examples": of} | trained(options, build(), "crops"), sha256, curve=errors)


if __name__ == "__main__":
    main()
