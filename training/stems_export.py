"""Ship a trained `stems`: `python training/stems_export.py --data SONGS --run DIR --out DIR --how "..."`.

Writes the average of the weights in half precision, the numbers of its page, and excerpts of songs.
"""

import soundfile

from data.songs import RATE, STEMS
from shipping import command, curve, read_log, trained, write_network, write_page
from stems import BLOCKS, KERNEL, LEVELS, RECIPE, Songs, build

# Of what is drawn where nothing is said, in samples: 2.23 s.
SIZE = 24_576
# Held-out songs that ship, and seconds of each.
EXAMPLES, SECONDS = (0, 3), 4


def main() -> None:
    """The command line."""
    options = command(__doc__).parse_args()
    songs, net = Songs(options.data), build()
    sha256 = write_network(
        options.run,
        options.out,
        kind="unet1d",
        channels=len(STEMS),
        widths=RECIPE.channels,
        blocks=BLOCKS,
        patch=RECIPE.patch,
        kernel=KERNEL,
        mean=0.0,
        std=0.5,
        size=[SIZE],
    )
    (options.out / "examples").mkdir(exist_ok=True)
    for k in EXAMPLES:
        song = songs.held_out[k]
        part = song[:, song.shape[1] // 3 :][:, : SECONDS * RATE].T
        soundfile.write(options.out / "examples" / f"{k}-song.flac", part, RATE)
    hours = sum(song.shape[1] for song in songs.train) / RATE / 3600
    of = f"{len(songs.train)} songs ({hours:.1f} hours); {len(songs.held_out)} held out"
    log, levels = read_log(options.run), [str(level) for level in LEVELS]
    curves = (f"{s}:\n\n{curve(log, 'windows', levels, 'held_out', s)}" for s in STEMS)
    made = {"examples": of} | trained(options, net, "windows")
    write_page(options.out, made, sha256, curves="\n\n".join(curves))


if __name__ == "__main__":
    main()
