"""`stems` separates songs that nobody was trained on, beside baselines and exact answers: docs/music.md.

python benchmarks/music.py exact                                  # stems of known spectra, where Wiener is exact
python benchmarks/music.py separate --songs SONGS --tracks 50     # of training/data/songs.py; goes on where it stopped
python benchmarks/music.py sweeps --songs SONGS --tracks 12
python benchmarks/music.py slakh --songs SONGS --slakh DIR        # a folder with bass.wav, drums.wav, ...
python benchmarks/music.py page
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import posteria as po
from lib.budget import budgeted
from lib.measure import measure, seeds_of
from lib.stems import BASELINES, LENGTH, RATE, STEMS, by_masks, excerpts, gaussian_stems, slakh
from lib.study import RESULTS, Row, by_method, common, draw, prior, rows, write_parts
from lib.table import Table, average, costs, paired
from posteria.metrics import si_sdr
from posteria.metrics.distribution import mean_error, variance_ratio
from posteria.operators import ChannelSum
from posteria.samplers.base import Sampler
from posteria.samplers.budget import at_budget

KEPT = RESULTS / "music.jsonl"
# Study, track and method of a row, and what measures it.
Cell = tuple[tuple[str, str, str], Callable[[], Row]]
# In units of the prior: 40 dB below a mixture.
STD = 0.01
# Evaluations and vjps a sample, and samples; means of these are also drawn of so many samples of each of these budgets.
BUDGET, SAMPLES = 100, 3
MANY, NUMBER, SEVERAL = ("ddrm", "msdm"), 12, (50, 100)
# With the paper's sweeps, inner steps and points MGDM costs so much; it is drawn last.
PUBLISHED, PAID = "mgdm, audio", 3469
LEVELS = po.Karras(steps=100, sigma_min=0.01, sigma_max=20.0)


def samplers() -> dict[str, Sampler[Any]]:
    """What is compared, at the same levels; a budget decides the number of steps."""
    own = po.samplers
    names = ["mgdm", "mgps", "mmps", "pigdm", "lgd", "dps", "sda", "tmpd", "daps", "pnp_dm"]
    names += ["diffpir", "dcps", "red_diff", "ddrm", "ddnm", "score_sde", "msdm"]
    found: dict[str, Any] = {name: own.SAMPLERS[name]() for name in names}
    found[PUBLISHED] = replace(own.MGDM.published("audio"), lr=0.05)
    found["mmps, gmres"] = own.MMPS(solver="gmres")
    found["msdm, dirac"] = own.MSDM.published("dirac")
    found["msdm, gaussian"] = own.MSDM.published("gaussian")
    return {name: replace(sampler, schedule=LEVELS) for name, sampler in found.items()}


def target_of(law: Any, truth: Tensor, seed: int) -> po.Posterior:
    """What is known of stems `[4, time]`: their sum, with a little noise."""
    likelihood = po.GaussianLikelihood(ChannelSum(truth.shape), STD)
    y = likelihood.sample(truth[None], po.Rng([seed], stream=1))[0]
    return po.Posterior(law, likelihood, y)


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
        seconds = (part.unfold(-1, RATE, RATE).square().mean(-1) for part in (x, truth))
        ours, true = (each[..., sounding(truth), :] for each in seconds)
        inside = (ours.amin(0) <= true) & (true <= ours.amax(0))
        miss = (x.mean(0) - truth).square().mean()
        found |= {"sample": gains(x, truth), "covered": float(inside.float().mean())}
        found["spread"] = float((x.var(0).mean() * (1 + 1 / len(x)) / miss).sqrt())
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


def separate(study: str, tracks: dict[str, Tensor], songs: Path, name: str) -> Iterator[Cell]:
    """Every method on every track, track by track, and what is dear at the end."""
    for dear in (False, True):
        for seed, (track, truth) in enumerate(tracks.items()):
            for method in () if dear else BASELINES:
                yield (study, track, method), partial(_masked, method, truth, songs)
            for method, sampler in samplers().items():
                if (method == PUBLISHED) == dear:
                    spent = (PAID, 1) if dear else (BUDGET, SAMPLES)
                    run = partial(_separate, sampler, name, truth, seed, *spent)
                    yield (study, track, method), run
                    for budget in SEVERAL if method in MANY else ():
                        run = partial(_separate, sampler, name, truth, seed, budget, NUMBER)
                        yield (study, track, f"{method}, {NUMBER} of {budget}"), run


def _masked(method: str, truth: Tensor, songs: Path) -> Row:
    return scores(by_masks(method, truth, songs)[None], truth)


def _separate(sampler: Any, name: str, truth: Tensor, seed: int, budget: int, n: int) -> Row:
    law = prior(name, LENGTH)
    try:
        sampler = at_budget(sampler, target_of(law, truth, seed), budget)
    except po.PosteriaError as error:
        return {"note": str(error)}
    return drawn(sampler, law, truth, n, seed)


# Of a sweep: inner steps and points of the run to the clean signal. Of an excerpt: the first second.
SWEEPS, INNER, POINTS, PART = (1, 2, 4, 6, 8), 3, 5, 11_264


def sweeps(tracks: dict[str, Tensor], name: str) -> Iterator[Cell]:
    """MGDM with R sweeps, and with one sweep whose further inner steps cost as much."""
    levels = replace(LEVELS, steps=10)
    once = replace(po.MGDM.published("audio"), schedule=levels, gibbs=1, points=POINTS, lr=0.05)
    for seed, (track, truth) in enumerate(tracks.items()):
        for count in SWEEPS:
            inner = count * INNER + (count - 1) * (POINTS - 1) // 2
            both = {
                f"{count} sweeps": replace(once, gibbs=count, inner=po.samplers.InnerSteps(INNER)),
                f"1 sweep for {count}": replace(once, inner=po.samplers.InnerSteps(inner)),
            }
            for method, sampler in both.items():
                if count > 1 or method == "1 sweeps":
                    run = partial(drawn, sampler, prior(name, PART), truth[:, :PART], 1, seed)
                    yield ("sweeps", track, method), run


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


def exact(tracks: int) -> Iterator[Cell]:
    """Every sampler against Wiener's filter, at 200 evaluations and 64 samples."""
    law = gaussian_stems()
    target = target_of(law, law.mean, 0)
    for track in range(tracks):
        for method, sampler in samplers().items():
            try:
                run = partial(against_wiener, at_budget(sampler, target, 200), 64, track)
            except po.PosteriaError as error:
                run = partial(dict, note=str(error))
            yield ("exact", str(track), method), run
        for method in ("tempered", "fps"):
            population = budgeted(method, target, 200)
            if not isinstance(population, str):
                run = partial(against_wiener, population, 64, track)
                yield ("exact", str(track), method), run


def _gains(by: dict[str, Row], key: str = "mean") -> dict[str, float]:
    return {
        track: statistics.fmean(row[key].values()) for track, row in by.items() if row.get(key)
    }


def separations(kept: list[Row], study: str) -> str:
    """SI-SDR improvements and what samples say of themselves."""
    found = by_method(kept, "track", "mean", study=study)
    order = sorted(found, key=lambda m: -statistics.fmean(_gains(found[m]).values()))
    wiener, lines = _gains(found.get(BASELINES[1], {})), []
    for method in order:
        by, each = found[method], list(found[method].values())
        lines.append([
            method,
            str(len(by)),
            *(average(row["mean"].get(stem) for row in each) for stem in STEMS),
            average(_gains(by).values()),
            paired(_gains(by), wiener),
            average(_gains(by, "sample").values()),
            *(average((row.get(key) for row in each), 2) for key in ("covered", "spread")),
            average((row["residual"] for row in each), 0),
            average(row.get("seconds") for row in each),
        ])
    header = ["method", "excerpts", *STEMS, "all", "over Wiener", "a sample", "covered"]
    header += ["spread / error", "residual, dB", "seconds"]
    return Table("", header, lines).markdown()


def curve(kept: list[Row]) -> str:
    """MGDM over sweeps, beside one sweep of equal cost, track by track."""
    found, lines = common(by_method(kept, "track", "mean", study="sweeps")), []
    tracks = next(iter(found.values()), {})
    for count in SWEEPS:
        many, one = found.get(f"{count} sweeps", {}), found.get(f"1 sweep for {count}", {})
        spent = [costs(r["evaluations"], r["vjps"]) for r in (*many.values(), *one.values())]
        cost, ours, theirs = " and ".join(dict.fromkeys(spent)), _gains(many), _gains(one)
        both = (average(each.values()) for each in (ours, theirs))
        lines.append([str(count), cost, *both, paired(ours, theirs)])
    header = ["sweeps R", "evaluations + vjps", "R sweeps", "one sweep, more inner steps"]
    title = f"{len(tracks)} excerpt{'s' * (len(tracks) != 1)}, one sample each"
    return Table(title, [*header, "difference"], lines).markdown()


def known(kept: list[Row]) -> str:
    """Samplers on stems of known spectra."""
    columns, means = ("mean_error", "variance_ratio", "residual"), []
    for method, by in by_method(kept, "track", "mean_error", study="exact").items():
        means.append((method, [statistics.fmean(r[c] for r in by.values()) for c in columns]))
    means.sort(key=lambda mean: mean[1][0])
    header = ["sampler", "error of the mean (sd)", "variance over exact", "residual / noise"]
    return Table("", header, [[m, *(f"{v:.2f}" for v in row)] for m, row in means]).markdown()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["exact", "separate", "sweeps", "slakh", "page"])
    parser.add_argument("--songs", type=Path, help="folder that training/data/songs.py wrote")
    parser.add_argument("--slakh", type=Path, help="folder with a track of Slakh2100")
    parser.add_argument("--prior", default="stems")
    parser.add_argument("--tracks", type=int, default=4)
    parser.add_argument("--methods", nargs="+", default=[])
    options = parser.parse_args()
    needed = {"separate": ["songs"], "sweeps": ["songs"], "slakh": ["songs", "slakh"]}
    for option in needed.get(options.what, []):
        if getattr(options, option) is None:
            parser.error(f"{options.what} needs --{option}.")
    torch.set_num_threads(1)
    what, name = options.what, options.prior
    if what == "page":
        kept = rows(KEPT)
        parts = {study: separations(kept, study) for study in ("separate", "slakh")}
        parts |= {"sweeps": curve(kept), "exact-stems": known(kept)}
        write_parts("music.md", parts)
        return
    if what == "exact":
        cells = exact(options.tracks)
    else:
        found = slakh(options.slakh) if what == "slakh" else excerpts(options.songs, held_out=True)
        tracks = {k: x for k, x in list(found.items())[: options.tracks] if len(sounding(x)) > 1}
        swept = what == "sweeps"
        cells = sweeps(tracks, name) if swept else separate(what, tracks, options.songs, name)
    named = (
        (dict(zip(("study", "track", "method"), key, strict=True)), run) for key, run in cells
    )
    draw(KEPT, named, "mean_error" if what == "exact" else "mean", options.methods)


if __name__ == "__main__":
    main()
