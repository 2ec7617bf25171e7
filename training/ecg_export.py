"""Ship a trained `ecg`: `python training/ecg_export.py --data DIR --run DIR --out DIR --how "..."`.

Writes the average of the weights in half precision, the numbers of its page and what it draws, and examples.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import posteria as po
from data.beats import beats, widths
from data.ecgs import LEADS, RATE, ECGs
from ecg import BLOCKS, KERNEL, LEVELS, RECIPE, STRIDES, build
from shipping import command, curve, in_table, read_log, trained, write_network, write_page

# What is drawn for the card, of the length of a record.
DRAWS, LENGTH = 64, 1000


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
    options = command(__doc__).parse_args()
    torch.set_num_threads(1)
    out, ecgs, net = options.out, ECGs(options.data), build()
    sha256 = write_network(
        options.run,
        out,
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
    (out / "examples").mkdir(exist_ok=True)
    # One of each source, of another rhythm each.
    for i, (each, k) in enumerate(((ecgs.real[0], 0), (ecgs.real[0], 20), (ecgs.real[1], 1))):
        name = f"{i}-{each.test_rhythm[k].replace(' ', '-').replace(',', '')}.npz"
        with (out / "examples" / name).open("wb") as file:
            np.savez_compressed(file, x=each.test[k].numpy(), fs=100.0, leads=LEADS, units="mV")
    x = drawn(out)
    torch.save(x, options.run / "draws.pt")
    test = torch.cat([each.test for each in ecgs.real])
    records = ((x, False), (ecgs.train, True), (test, False))
    columns = [statistics(each, ecgs.train, own) for each, own in records]
    log, levels = read_log(options.run), [str(level) for level in LEVELS]
    curves = [
        (s, curve(log, "examples", levels, s, digits=4)) for s in (r.source for r in ecgs.real)
    ]
    of = (
        f"{len(ecgs.train)} real records and {len(ecgs.generated)} generated; {len(test)} held out"
    )
    write_page(
        out,
        {"examples": of} | trained(options, net, "examples"),
        sha256,
        curves="\n\n".join(f"{source}:\n\n{table}" for source, table in curves),
        draws=in_table(
            ["", "drawn", "trained on", "held out"],
            [[key, *(column[key] for column in columns)] for key in columns[0]],
        ),
    )


if __name__ == "__main__":
    main()
