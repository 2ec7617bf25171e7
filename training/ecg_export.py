"""Ship a trained `ecg`: `python training/ecg_export.py --data DIR --run DIR --out DIR --how "..."`.

Writes the average of the weights in half precision, its card with hash, training curve and what it draws, and examples.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import posteria as po
from data.beats import beats, widths
from data.ecgs import CROPS, GENERATED, LEADS, RATE, ECGs
from ecg import BLOCKS, KERNEL, LEVELS, RECIPE, STRIDES, build
from shipping import command, curve, read_log, write_network, write_page

# What is drawn for the card, of the length of a record.
DRAWS, LENGTH = 64, 1000
CARD = """name = "ecg"
reader = "local"
modality = "ecg"
about = "electrocardiograms of any length, 8 leads at 100 Hz (a local U-Net without attention or normalisation)"
sha256 = "{sha256}"
licence = "data ODC-By 1.0 (LUDB), CC BY 4.0 (PhysioNet Challenge 2021) and MIT (deepfake-ecg); weights Apache-2.0"
cite = "Kalyakulina et al., LUDB, IEEE Access 8 (2020), doi:10.1109/ACCESS.2020.3029211"
notes = "It knows beats and how leads go together, and little of rhythm: free draws are irregular. No medical device."

[data]
shape = [8, 1024]
units = "mV"
rate = 100.0
"""
CREDITS = """LUDB, Lobachevsky University Electrocardiography Database 1.0.1: Kalyakulina, Yusipov, Moskalenko,
Nikolskiy, Kosonogov, Osipov, Zolotykh, Ivanchenko, LUDB: A New Open-Source Validation Tool for
Electrocardiogram Delineation Algorithms, IEEE Access 8 (2020), 186181, doi:10.1109/ACCESS.2020.3029211,
https://physionet.org/content/ludb/1.0.1/;
Open Data Commons Attribution License 1.0, whose text follows.

Samples of the PhysioNet/Computing in Cardiology Challenge 2021: Reyna, Sadr, Perez Alday, Gu, Shah, Robichaux, Rad,
Elola, Seyedi, Ansari, Ghanbari, Li, Sharma, Clifford, Will Two Do? Varying Dimensions in Electrocardiography,
Computing in Cardiology 48 (2021), https://physionet.org/content/challenge-2021/1.0.3/; Creative Commons Attribution
4.0 International, https://creativecommons.org/licenses/by/4.0/; they were resampled to 100 Hz.

deepfake-ecg 1.1.2: Thambawita et al., DeepFake electrocardiograms using generative adversarial networks are the
beginning of the end for privacy issues in medicine, Scientific Reports 11 (2021), 21896; the MIT License, whose text
is the last below.

The weights of `ecg` were made of these records; those in examples/ are of LUDB and of the Challenge."""
PAGE = """# ecg

A prior of electrocardiograms of any length at 100 Hz, in mV: the leads {leads}.
III, aVR, aVL and aVF follow exactly.
It is EDM's preconditioning around a U-Net of {size:.2f} million numbers that sees {seconds:.1f} s far to either side,
without attention and without normalisation over time.
It is no medical device.

What it knows is the shape of beats and how leads go together; what it does not know well is rhythm.
Drawn freely, {irregular} of the records are irregular, as the table below says, and {held_irregular} of the real ones.
Errors on the records that it was trained on still fall as training goes on, and those on held-out ones hardly:
what it lacks are patients.
Where some lead is seen all the time the rhythm is in the measurement; a long gap in all leads it fills with beats at
times of its own.

| | |
|---|---|
| data | {real} of 270 real records of 10 s, one a patient: 160 of LUDB 1.0.1 (ODC-By 1.0), 56 of the samples of the \
PhysioNet/CinC Challenge 2021 (CC BY 4.0); and {generated} drawn by the generator deepfake-ecg 1.1.2 (MIT), which are \
{share:.0%} of the examples. LICENCES.txt has all of them |
| held out | every fifth record of each source, sorted by rhythm and shuffled within it with seed 0: 40 of LUDB, 14 of \
the Challenge (`training/data/ecgs.py`) |
| recipe | `training/ecg.py`: parts of {long} or {short} samples, their time faster or slower by up to a fifth, the \
heart's dipole turned by 12 degrees, electrodes on the chest moved, gains changed; batches of {batch} |
| training | {seen} examples, {minutes} minutes on {how}; it resumes |
| weights | half precision, sha256 {sha256} |

The levels of noise were shifted twice, as the recipe says.
Root mean square error in mV of denoising held-out records as training went on, at a noise of so many mV:

{curves}

## What it draws

{draws} records of 10 s, beside the records it was trained on and those held out.
Beats are peaks of the slope of all leads together, found in all three alike; a rhythm is called irregular where the
standard deviation of its RR intervals is above a tenth of their mean; the width is that of the steep part of a beat.

| | drawn | trained on | held out |
|---|---|---|---|
{scores}

The nearest neighbour of a part of 5 s is the part of a training record with which it correlates most, over all leads
and shifts.
"""


def drawn(out: Path) -> Tensor:
    """Draws of the prior that was written, `[DRAWS, 8, LENGTH]`."""
    prior = po.load_prior(out, size=LENGTH)
    parts = [po.Unconditional().sample(prior, seeds=range(k, k + 8)) for k in range(0, DRAWS, 8)]
    return torch.cat(parts)


def statistics(x: Tensor, train: Tensor, own: bool) -> dict[str, str]:
    """What the card says of records `[n, 8, 1000]`."""
    rates, spread, wide = [], [], []
    for record in x:
        at = beats(record)
        if len(at) > 3:
            intervals = np.diff(at) / RATE
            rates.append(60 / intervals.mean())
            spread.append(intervals.std() / intervals.mean())
            wide += [np.median(widths(record, at))]
    rate, irregular = np.array(rates), np.array(spread) > 0.1
    low, middle, high = np.quantile(rate, [0.05, 0.5, 0.95])
    near = nearest(x, train, own)
    return {
        "records, and with four beats or more": f"{len(x)}, {len(rate)}",
        "heart rate a minute: 5 %, median, 95 %": f"{low:.0f}, {middle:.0f}, {high:.0f}",
        "below 60 a minute": f"{(rate < 60).mean():.0%}",
        "above 100 a minute": f"{(rate > 100).mean():.0%}",
        "irregular": f"{irregular.mean():.0%}",
        "standard deviation of RR over mean: median": f"{np.median(spread):.3f}",
        "width of a beat in ms: 5 %, median, 95 %": ", ".join(
            f"{1000 * q:.0f}" for q in np.quantile(wide, [0.05, 0.5, 0.95])
        ),
        **{
            f"lead {LEADS[i]}, highest less lowest in mV: 5 %, median, 95 %": ", ".join(
                f"{q:.2f}" for q in np.quantile(np.ptp(x[:, i].numpy(), axis=1), [0.05, 0.5, 0.95])
            )
            for i in (0, 1, 3, 6)
        },
        "correlation with the nearest neighbour: median, highest": f"{near.median():.2f}, {near.max():.2f}",
    }


def nearest(x: Tensor, train: Tensor, own: bool) -> Tensor:
    """Of the middle 5 s of each record, the highest correlation with a part of another's to train on."""
    part = x[:, :, 250:750]
    part = part - part.mean(2, keepdim=True)
    part = part / part.square().sum((1, 2), keepdim=True).sqrt()
    found = torch.nn.functional.conv1d(train, part)
    # Of windows whose mean is taken away as well.
    ones = torch.ones(len(LEADS), 1, part.shape[2])
    sums = torch.nn.functional.conv1d(train, ones, groups=len(LEADS))
    squares = torch.nn.functional.conv1d(train.square(), ones, groups=len(LEADS))
    energy = (squares - sums.square() / part.shape[2]).sum(1)
    best = (found / energy[:, None].sqrt()).amax(2)
    if own:
        best = best - torch.eye(len(train)) * 9
    return best.amax(0)


def main() -> None:
    """The command line."""
    options = command(__doc__)
    torch.set_num_threads(1)
    out, ecgs, net = options.out, ECGs(options.data), build()
    sha256 = write_network(
        options.run,
        out,
        CARD,
        kind="unet1d",
        channels=len(LEADS),
        widths=RECIPE.channels,
        blocks=BLOCKS,
        patch=RECIPE.patch,
        kernel=KERNEL,
        strides=STRIDES,
        size=[1024],
        sigma_data=RECIPE.sigma_data,
        mean=round(float(ecgs.train.mean()), 3),
        std=round(float(ecgs.train.std()), 3),
    )
    # One of each source, of another rhythm each.
    for i, (each, k) in enumerate(((ecgs.real[0], 0), (ecgs.real[0], 20), (ecgs.real[1], 1))):
        (out / "examples").mkdir(exist_ok=True)
        name = f"{i}-{each.test_rhythm[k].replace(' ', '-').replace(',', '')}.npz"
        with (out / "examples" / name).open("wb") as file:
            np.savez_compressed(file, x=each.test[k].numpy(), fs=100.0, leads=LEADS, units="mV")
    texts = [
        (options.data / "licences" / name).read_text()
        for name in ("LUDB-1.0.1.ODC-By.txt", "deepfake-ecg.MIT.txt")
    ]
    (out / "LICENCES.txt").write_text("\n\n".join([CREDITS, *texts]))
    x = drawn(out)
    torch.save(x, options.run / "draws.pt")
    test = torch.cat([each.test for each in ecgs.real])
    columns = [
        statistics(x, ecgs.train, False),
        statistics(ecgs.train, ecgs.train, True),
        statistics(test, ecgs.train, False),
    ]
    log, levels = read_log(options.run), [str(level) for level in LEVELS]
    write_page(
        options,
        PAGE,
        RECIPE,
        net,
        sha256,
        leads=", ".join(LEADS),
        seconds=net.reach / RATE,
        real=len(ecgs.train),
        generated=len(ecgs.generated),
        share=GENERATED,
        long=CROPS[0][0],
        short=CROPS[1][0],
        curves="\n\n".join(
            f"{each.source}:\n\n{curve(log, 'examples', levels, each.source, digits=4)}"
            for each in ecgs.real
        ),
        draws=DRAWS,
        irregular=columns[0]["irregular"],
        held_irregular=columns[2]["irregular"],
        scores="\n".join(
            f"| {key} | {' | '.join(column[key] for column in columns)} |" for key in columns[0]
        ),
    )


if __name__ == "__main__":
    main()
