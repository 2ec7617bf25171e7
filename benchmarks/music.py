"""`stems` separates songs that nobody was trained on, beside baselines and exact answers: docs/music.md.

python benchmarks/music.py exact                                  # stems of known spectra, where Wiener is exact
python benchmarks/music.py separate --songs SONGS --tracks 50     # of training/songs.py; it goes on where it stopped
python benchmarks/music.py sweeps --songs SONGS --tracks 12
python benchmarks/music.py slakh --songs SONGS --slakh DIR        # a folder with bass.wav, drums.wav, ...
python benchmarks/music.py page
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import posteria as po
from lib import budgeted, measure, seeds_of
from lib.stems import BASELINES, LENGTH, RATE, STEMS, by_masks, gaussian_stems, held_out, slakh
from lib.table import Table, error_of
from posteria.metrics import si_sdr
from posteria.metrics.distribution import mean_error, variance_ratio
from posteria.operators import ChannelSum
from posteria.samplers.base import Sampler
from posteria.samplers.budget import at_budget
from report import DOCS, RESULTS, marked

KEPT = RESULTS / "music.jsonl"
# In units of the prior: 40 dB below a mixture.
STD = 0.01
# Evaluations and vjps a sample, and samples: the truth is between the least and the largest of three half of the time.
BUDGET, SAMPLES = 100, 3
# With the paper's sweeps, inner steps and points MGDM costs so much; it is drawn last.
PUBLISHED, PAID = "mgdm, audio", 3469
LEVELS = po.Karras(steps=100, sigma_min=0.01, sigma_max=20.0)
Row = dict[str, Any]


def samplers() -> dict[str, Sampler[Any]]:
    """What is compared, at the same levels; a budget decides the number of steps."""
    own = po.samplers
    names = ["mgdm", "mgps", "mmps", "pigdm", "lgd", "dps", "sda", "tmpd", "daps", "pnp_dm"]
    names += ["diffpir", "dcps", "red_diff", "ddrm", "ddnm", "score_sde", "msdm"]
    found: dict[str, Any] = {name: own.SAMPLERS[name]() for name in names}
    found[PUBLISHED] = replace(own.MGDM.published("audio"), lr=0.05)
    found["msdm, dirac"] = own.MSDM.published("dirac")
    found["msdm, gaussian"] = own.MSDM.published("gaussian")
    return {name: replace(sampler, schedule=LEVELS) for name, sampler in found.items()}


@cache
def prior(name: str, size: int = LENGTH) -> po.Network:
    """The prior; in half precision where that is fast."""
    dtype = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    loaded = po.load_prior(name, dtype=dtype, size=size)
    assert isinstance(loaded, po.Network)
    return loaded


def target_of(law: Any, truth: Tensor, seed: int) -> po.Posterior:
    """What is known of stems `[4, time]`: their sum, with a little noise."""
    likelihood = po.GaussianLikelihood(ChannelSum(truth.shape), STD)
    return po.Posterior(
        law, likelihood, likelihood.sample(truth[None], po.Rng([seed], stream=1))[0]
    )


def sounding(truth: Tensor) -> list[int]:
    """Stems that are heard."""
    level = truth.square().mean(1).sqrt()
    return [k for k in range(len(STEMS)) if level[k] > 1e-2 * level.max()]


def gains(x: Tensor, truth: Tensor) -> dict[str, float]:
    """By how many dB the SI-SDR of stems `[n, 4, time]` is above that of the mixture, for each that is heard."""
    mixture, found = truth.sum(0)[None, None], {}
    for k in sounding(truth):
        ratio = si_sdr(x[:, k : k + 1], truth[k : k + 1]) - si_sdr(mixture, truth[k : k + 1])
        found[STEMS[k]] = float(ratio.mean())
    return found


def scores(x: Tensor, truth: Tensor) -> Row:
    """What is kept of samples `[n, 4, time]`."""
    mixture = truth.sum(0)
    error = (x.sum(1) - mixture).square().mean() / mixture.square().mean()
    found = {"mean": gains(x.mean(0, keepdim=True), truth), "residual": float(10 * error.log10())}
    if len(x) > 1:
        energies = [
            part.unfold(-1, RATE, RATE).square().mean(-1)[..., sounding(truth), :]
            for part in (x, truth)
        ]
        low, high = energies[0].amin(0), energies[0].amax(0)
        inside = (low <= energies[1]) & (energies[1] <= high)
        miss = (x.mean(0) - truth).square().mean()
        found |= {
            "sample": gains(x, truth),
            "covered": float(inside.float().mean()),
            "spread": float((x.var(0).mean() * (1 + 1 / len(x)) / miss).sqrt()),
        }
    return found


def drawn(sampler: Sampler[Any], law: Any, truth: Tensor, n: int, seed: int) -> Row:
    """Scores and cost of samples of the stems given their sum, or why there are none."""
    target, started = target_of(law, truth, seed), time.process_time()
    try:
        draws = measure(sampler, target, range(n))
    except po.PosteriaError as error:
        return {"note": str(error)}
    seconds = (time.process_time() - started) / n
    cost = {"evaluations": draws.evaluations, "vjps": draws.vjps, "seconds": seconds}
    return scores(draws.samples, truth) | cost | {"note": repr(sampler)}


def separate(
    tracks: dict[str, Tensor], songs: Path, name: str
) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Every method on every track, track by track, and what is dear at the end."""
    for dear in (False, True):
        for seed, (track, truth) in enumerate(tracks.items()):
            for method in () if dear else BASELINES:
                yield track, method, partial(_masked, method, truth, songs)
            for method, sampler in samplers().items():
                if (method == PUBLISHED) == dear:
                    budget = PAID if dear else BUDGET
                    yield track, method, partial(_separate, sampler, name, truth, seed, budget)


def _masked(method: str, truth: Tensor, songs: Path) -> Row:
    return scores(by_masks(method, truth, songs)[None], truth)


def _separate(sampler: Any, name: str, truth: Tensor, seed: int, budget: int) -> Row:
    law = prior(name)
    try:
        sampler = at_budget(sampler, target_of(law, truth, seed), budget)
    except po.PosteriaError as error:
        return {"note": str(error)}
    return drawn(sampler, law, truth, SAMPLES if budget == BUDGET else 1, seed)


# Of a sweep: inner steps and points of the run to the clean signal. Of an excerpt: the first second.
SWEEPS, INNER, POINTS, PART = (1, 2, 4, 6, 8), 3, 5, 11_264


def sweeps(tracks: dict[str, Tensor], name: str) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """MGDM with R sweeps, and with one sweep whose further inner steps cost as much."""
    once = replace(
        po.MGDM.published("audio"),
        schedule=replace(LEVELS, steps=10),
        gibbs=1,
        points=POINTS,
        lr=0.05,
    )
    for seed, (track, truth) in enumerate(tracks.items()):
        for count in SWEEPS:
            inner = count * INNER + (count - 1) * (POINTS - 1) // 2
            both = {
                f"{count} sweeps": replace(once, gibbs=count, inner=po.samplers.InnerSteps(INNER)),
                f"1 sweep for {count}": replace(once, inner=po.samplers.InnerSteps(inner)),
            }
            for method, sampler in both.items():
                if count > 1 or method == "1 sweeps":
                    yield (
                        track,
                        method,
                        partial(drawn, sampler, prior(name, PART), truth[:, :PART], 1, seed),
                    )


def against_wiener(sampler: Sampler[Any], n: int, track: int) -> Row:
    """Of n samples: error of the mean in standard deviations, variance over the exact one, residual of the sum.

    Along the directions that the sum leaves open, three in each frequency.
    """
    law = gaussian_stems()
    truth = law.sample(1, torch.Generator().manual_seed(track))[0]
    target = target_of(law, truth, track)
    exact = law.posterior(target.likelihood, target.y)
    values, vectors = torch.linalg.eigh(exact.covariance)
    wide = values > 100 * STD**2
    x = measure(sampler, target, seeds_of(track, n)).samples
    z, std = (x - exact.mean).flatten(1) @ vectors[:, wide], values[wide].sqrt()
    residual = (target.likelihood.operator(x) - target.y).square().mean().sqrt()  # type: ignore[attr-defined]
    return {
        "mean_error": mean_error(z, torch.zeros_like(std), std),
        "variance_ratio": variance_ratio(z, std),
        "residual": float(residual / STD),
        "note": repr(sampler),
    }


def exact(tracks: int) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Every sampler against Wiener's filter, at 200 evaluations and 64 samples."""
    law = gaussian_stems()
    target = target_of(law, law.mean, 0)
    for track in range(tracks):
        for method, sampler in samplers().items():
            try:
                run = partial(against_wiener, at_budget(sampler, target, 200), 64, track)
            except po.PosteriaError as error:
                run = partial(dict, note=str(error))
            yield str(track), method, run
        for method in ("tempered", "fps"):
            population = budgeted(method, target, 200)
            if not isinstance(population, str):
                yield str(track), method, partial(against_wiener, population, 64, track)


def rows(path: Path) -> list[Row]:
    """What is kept."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def draw(
    kept: Path,
    study: str,
    cells: Iterator[tuple[str, str, Callable[[], Row]]],
    methods: Sequence[str],
) -> None:
    """Draw what is not kept yet; of these methods, or of all if there are none."""
    done = {(row["study"], row["track"], row["method"]) for row in rows(kept)}
    for track, method, run in cells:
        if (study, track, method) not in done and (not methods or method in methods):
            row = {"study": study, "track": track, "method": method} | run()
            with kept.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                study,
                track,
                method,
                row.get("mean", row.get("mean_error", row.get("note"))),
                flush=True,
            )


def of(kept: list[Row], study: str, key: str) -> dict[str, dict[str, Row]]:
    """Rows of a study by method and track."""
    found: dict[str, dict[str, Row]] = {}
    for row in kept:
        if row["study"] == study and key in row:
            found.setdefault(row["method"], {})[row["track"]] = row
    return found


def _over(by: dict[str, Row], value: Callable[[Row], float | None], digits: int = 1) -> str:
    values = [v for row in by.values() if (v := value(row)) is not None]
    if len(values) < 2:
        return "-" if not values else f"{values[0]:.{digits}f}"
    return f"{statistics.fmean(values):.{digits}f} ± {error_of(values):.{digits}f}"


def _gain(row: Row, key: str = "mean") -> float | None:
    return statistics.fmean(row[key].values()) if row.get(key) else None


def _stem(stem: str, row: Row) -> float | None:
    return row["mean"].get(stem)  # type: ignore[no-any-return]


def separations(kept: list[Row], study: str) -> str:
    """SI-SDR improvements and what samples say of themselves."""
    found = of(kept, study, "mean")
    order = sorted(
        found, key=lambda m: -statistics.fmean(_gain(r) or 0.0 for r in found[m].values())
    )
    wiener = found.get(BASELINES[1], {})

    def beside(row: Row) -> float | None:
        other = wiener.get(row["track"])
        return (_gain(row) or 0.0) - (_gain(other) or 0.0) if other else None

    lines = [
        [
            method,
            str(len(found[method])),
            *(_over(found[method], partial(_stem, stem)) for stem in STEMS),
            _over(found[method], _gain),
            _over(found[method], beside),
            _over(found[method], lambda row: _gain(row, "sample")),
            _over(found[method], lambda row: row.get("covered"), 2),
            _over(found[method], lambda row: row.get("spread"), 2),
            _over(found[method], lambda row: row["residual"], 0),
            _over(found[method], lambda row: row.get("seconds")),
        ]
        for method in order
    ]
    header = [
        "method",
        "excerpts",
        *STEMS,
        "all",
        "over Wiener",
        "a sample",
        "covered",
        "spread / error",
        "residual, dB",
        "seconds",
    ]
    return Table("", header, lines).markdown()


def curve(kept: list[Row]) -> str:
    """MGDM over sweeps, beside one sweep of equal cost, track by track."""
    found = of(kept, "sweeps", "mean")
    tracks = set.intersection(*map(set, found.values())) if found else set()
    found = {m: {t: by[t] for t in sorted(tracks)} for m, by in found.items()}
    lines = []
    for count in SWEEPS:
        many, one = found.get(f"{count} sweeps", {}), found.get(f"1 sweep for {count}", {})
        gaps = {
            t: {"gap": (_gain(many[t]) or 0.0) - (_gain(one[t]) or 0.0)} for t in many if t in one
        }
        spent = [
            f"{r['evaluations']:.0f} + {r['vjps']:.0f}" for r in (*many.values(), *one.values())
        ]
        cost = " and ".join(dict.fromkeys(spent))
        lines.append([
            str(count),
            cost,
            _over(many, _gain),
            _over(one, _gain),
            _over(gaps, lambda row: row["gap"]),
        ])
    header = [
        "sweeps R",
        "evaluations + vjps",
        "R sweeps",
        "one sweep, more inner steps",
        "difference",
    ]
    return Table(
        f"{len(tracks)} excerpt{'s' * (len(tracks) != 1)}, one sample each", header, lines
    ).markdown()


def known(kept: list[Row]) -> str:
    """Samplers on stems of known spectra."""
    found = of(kept, "exact", "mean_error")
    columns = ("mean_error", "variance_ratio", "residual")
    means = {
        m: [statistics.fmean(r[c] for r in by.values()) for c in columns]
        for m, by in found.items()
    }
    order = sorted(means, key=lambda m: means[m][0])
    lines = [[m, *(f"{value:.2f}" for value in means[m])] for m in order]
    return Table(
        "", ["sampler", "error of the mean (sd)", "variance over exact", "residual / noise"], lines
    ).markdown()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["exact", "separate", "sweeps", "slakh", "page"])
    parser.add_argument("--songs", type=Path, help="folder that training/songs.py wrote")
    parser.add_argument("--slakh", type=Path, help="folder with a track of Slakh2100")
    parser.add_argument("--prior", default="stems")
    parser.add_argument("--kept", type=Path, default=KEPT)
    parser.add_argument("--tracks", type=int, default=4)
    parser.add_argument("--methods", nargs="+", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    what, name = options.what, options.prior
    if what == "page":
        kept, path = rows(options.kept), DOCS / "music.md"
        parts = {study: separations(kept, study) for study in ("separate", "slakh")}
        parts |= {"sweeps": curve(kept), "exact-stems": known(kept)}
        path.write_text(marked(path.read_text(), parts))
        return
    if what == "exact":
        draw(options.kept, what, exact(options.tracks), options.methods)
        return
    found = slakh(options.slakh) if what == "slakh" else held_out(options.songs)
    tracks = {k: x for k, x in list(found.items())[: options.tracks] if len(sounding(x)) > 1}
    cells = sweeps(tracks, name) if what == "sweeps" else separate(tracks, options.songs, name)
    draw(options.kept, what, cells, options.methods)


if __name__ == "__main__":
    main()
