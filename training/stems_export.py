"""Ship a trained `stems`: `python training/stems_export.py --data SONGS --run DIR --out DIR`.

Writes the average of the weights in half precision, its card with hash and training curve, and excerpts of songs.
"""

import soundfile

from data.songs import RATE, STEMS
from shipping import command, curve, read_log, write_network, write_page
from stems import BLOCKS, KERNEL, LENGTH, LEVELS, RECIPE, Songs, build

# Of what is drawn where nothing is said, in samples: 2.23 s.
SIZE = 24_576
# Held-out songs that ship, and seconds of each.
EXAMPLES, SECONDS = (0, 3), 4
CARD = """name = "stems"
reader = "local"
modality = "audio"
about = "four stems of a song, bass, drums, guitar and piano, of any length (a local U-Net)"
sha256 = "{sha256}"
licence = "songs composed for it, played with FluidR3 (MIT, LICENSE.txt); weights Apache-2.0"
cite = "Mariani et al., Multi-Source Diffusion Models for Simultaneous Music Generation and Separation, \
arXiv:2302.02257"
notes = "General MIDI of one soundfont at 11.025 kHz; README.md has what was measured and what it cannot do."

[data]
shape = [4, 24576]
rate = 11025
units = "tenths of full scale"
names = ["bass", "drums", "guitar", "piano"]
gain = 10.0
"""
PAGE = """# stems

A prior of four stems, bass, drums, guitar and piano, each of them a mono waveform at 11.025 kHz, jointly: EDM's
preconditioning around a U-Net in time of {size:.1f} million numbers that sees {reach} samples ({ms} ms) far, so that
songs of any length are one signal.

| | |
|---|---|
| data | {songs} songs ({hours:.1f} hours) that `training/data/songs.py` composed by a random rule of its own and \
fluidsynth played with FluidR3 (Frank Wen, MIT: LICENSE.txt); {held} further songs, by seed, are held out |
| values | ten times the waveform of full scale 1, so that the root mean square of a stem is about 0.5 and that of a \
mixture 0.9; levels from 0.002 to 80 suit |
| rate, length | 11.025 kHz and 2.23 s (`size` for any other): twice the rate is twice the work for what is heard \
above 5.5 kHz, mostly cymbals, and an hour of one core does not do more |
| recipe | `training/stems.py`: windows of {length} samples, loudness of the window and of each stem varied, half of \
them upside down; batches of {batch}; it resumes, on a CPU or a GPU |
| training | {seen} windows, {minutes} minutes on {how} |
| weights | half precision, sha256 {sha256} |

What denoising leaves of held-out stems, in dB of their power, as training went on,
at noise levels {levels} (times 0.1 of full scale):

{curves}

It knows the programs of General MIDI that the composer uses, as one soundfont plays them, in keys and rhythms of a
simple rule: no voices, no other instruments, no recordings, no effects but fluidsynth's reverberation.
What it draws by itself is noise in the colour of each instrument, with strokes of the drums and no notes: it sees
{ms} ms far, and learnt little at the levels of noise at which notes are decided.
Given a mixture it finds the notes of that mixture, and leaves much of each in the other stems.
`docs/music.md` has what separation by it is worth, on songs of the composer and on one that is not.
"""


def main() -> None:
    """The command line."""
    options = command(__doc__)
    songs, net = Songs(options.data), build()
    sha256 = write_network(
        options.run,
        options.out,
        CARD,
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
    log, levels = read_log(options.run), [str(level) for level in LEVELS]
    write_page(
        options,
        PAGE,
        RECIPE,
        net,
        sha256,
        ms=round(1000 * net.reach / RATE),
        songs=len(songs.train),
        hours=sum(song.shape[1] for song in songs.train) / RATE / 3600,
        held=len(songs.held_out),
        length=LENGTH,
        levels=", ".join(levels),
        curves="\n\n".join(
            f"{stem}:\n\n{curve(log, 'windows', levels, 'held_out', stem)}" for stem in STEMS
        ),
    )


if __name__ == "__main__":
    main()
