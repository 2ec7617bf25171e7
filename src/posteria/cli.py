"""The command line."""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from .core.errors import InputError, PosteriaError, unknown
from .version import __version__

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Sample what a pre-trained diffusion model is tilted towards.",
)
console = Console()


def _option(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text)


@app.command()
def restore(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[INPUT]",
            help="A picture or an array (.npy, .npz); default: one that ships.",
        ),
    ] = None,
    out: Annotated[Path, _option("Folder for the results.")] = Path("posteria-run"),
    task: Annotated[
        str, _option("How the picture is spoilt; see `posteria list operators`.")
    ] = "inpaint",
    mask: Annotated[
        str, _option("box, half, expand, random, or a FILE: white is seen, black is missing.")
    ] = "box",
    share: Annotated[float, _option("Share of the pixels that is seen (random mask).")] = 0.3,
    factor: Annotated[int, _option("Side of the averaged blocks (sr).")] = 4,
    blur: Annotated[float, _option("Width of the blur in pixels (blur, motion).")] = 1.5,
    quality: Annotated[int, _option("Of the JPEG, 1 to 100.")] = 10,
    bits: Annotated[int, _option("Of a pixel (quantize).")] = 2,
    sigma: Annotated[float, _option("Noise level in data units; pictures span [-1, 1].")] = 0.05,
    prior: Annotated[
        str, _option("Prior; see `posteria list priors`. Or diffusers:FOLDER-OR-HUB-NAME.")
    ] = "digits",
    size: Annotated[
        str | None, _option("HEIGHTxWIDTH, to run a prior at another size than it was trained at.")
    ] = None,
    label: Annotated[int | None, _option("Class, for a prior that knows labels.")] = None,
    sampler: Annotated[str, _option("Sampler; see `posteria list samplers`. Or auto.")] = "mgdm",
    preset: Annotated[str | None, _option("Published settings of the sampler.")] = None,
    steps: Annotated[int | None, _option("Steps of the noise schedule.")] = None,
    budget: Annotated[
        int | None,
        _option("Evaluations and vjps of the prior per sample, from which the steps follow."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        _option("Another setting of the sampler, such as gibbs=2 or index=Midpoint().", "--set"),
    ] = None,
    samples: Annotated[int, _option("Number of samples.")] = 8,
    seed: Annotated[int, _option("Seed of the first sample; the others count up.")] = 0,
    data_seed: Annotated[
        int | None,
        _option("Seed of simulated noise, random masks and motion kernels; default: --seed."),
    ] = None,
    input_kind: Annotated[
        str | None,
        _option("clean (the measurement is simulated; default for pictures) or measurement."),
    ] = None,
    fit: Annotated[
        bool, _option("Crop, resize and convert the picture to what the prior takes.")
    ] = False,
    chunk: Annotated[int, _option("Samples drawn in one batch.")] = 8,
    device: Annotated[str, _option("cpu or cuda.")] = "cpu",
    record: Annotated[
        Path | None,
        _option("The run.json of an earlier run, to repeat it; other options are ignored."),
    ] = None,
) -> None:
    """Draw pictures that a spoilt one may have been, with the uncertainty that is left.

    A run that was killed goes on when it is started again with the same command.
    """
    # The heart of the package takes a second to import; help and errors of usage should not wait
    # for it.
    from .problems.image import Options
    from .runs.restore import Request, prepare, repeat, run
    from .runs.store import Store

    request = Request(
        input=source,
        input_kind=input_kind,
        task=task,
        mask=mask,
        options=Options(share=share, factor=factor, blur=blur, quality=quality, bits=bits),
        sigma=sigma,
        prior=prior,
        size=None if size is None else _size(size),
        label=label,
        sampler=sampler,
        preset=preset,
        steps=steps,
        budget=budget,
        settings=dict(_pair(text) for text in setting or []),
        samples=samples,
        seed=seed,
        data_seed=data_seed,
        chunk=chunk,
        fit=fit,
        device=device,
    )
    job = prepare(request if record is None else repeat(record))
    if job.why:
        console.print(f"Sampler: {job.why}.", soft_wrap=True)
    with _progress() as progress:
        bar = progress.add_task(f"{job.plan.task}, {job.plan.samples} samples", total=None)
        results, before = run(
            job, Store(out), lambda done, total: progress.update(bar, completed=done, total=total)
        )
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in results.rows(job.plan.sigma):
        table.add_row(name, value)
    console.print(table)
    if results.remark():
        console.print(f"[yellow]{results.remark()}")
    _finish(out, before)


@app.command()
def generate(
    out: Annotated[Path, _option("Folder for the results.")] = Path("posteria-draws"),
    prior: Annotated[
        str, _option("Prior; see `posteria list priors`. Or diffusers:FOLDER-OR-HUB-NAME.")
    ] = "digits",
    size: Annotated[
        str | None, _option("HEIGHTxWIDTH, to run a prior at another size than it was trained at.")
    ] = None,
    label: Annotated[int | None, _option("The class to draw.")] = None,
    weight: Annotated[
        float, _option("Power of the label: 1 is the conditional law, 0 the prior's own.")
    ] = 2.0,
    rule: Annotated[str, _option("Rule or sampler; see `posteria list rules`.")] = "cfg",
    compare: Annotated[
        str | None,
        _option("Several rules, such as cfg,cfgig,apg, side by side on the same seeds."),
    ] = None,
    solver: Annotated[
        str | None, _option("heun, ddim, ddpm or dpmpp2m; default: what suits the rule.")
    ] = None,
    steps: Annotated[int | None, _option("Steps of the noise schedule.")] = None,
    setting: Annotated[
        list[str] | None,
        _option(
            "Another setting of the rule, such as eta=0.5, or of one rule: apg.eta=0.5.", "--set"
        ),
    ] = None,
    weak: Annotated[
        str | None, _option("A weaker prior, for rules that push away from one.")
    ] = None,
    tuned: Annotated[str | None, _option("A tuned prior, for rules that follow one.")] = None,
    classifier: Annotated[
        str | None, _option("Classifier that judges, and guides; default: the prior's own.")
    ] = None,
    n: Annotated[int, _option("Number of samples, of each rule.", "--n")] = 16,
    reference: Annotated[
        int | None,
        _option(
            "Draws from the conditional law to compare with; default: --n with --compare, else 0."
        ),
    ] = None,
    seed: Annotated[int, _option("Seed of the first sample; the others count up.")] = 0,
    chunk: Annotated[int, _option("Samples drawn in one batch.")] = 16,
    device: Annotated[str, _option("cpu or cuda.")] = "cpu",
    record: Annotated[
        Path | None,
        _option("The run.json of an earlier run, to repeat it; other options are ignored."),
    ] = None,
) -> None:
    """Draw what a label stands for, with the label raised to a power, by one guidance rule or several.

    A run that was killed goes on when it is started again with the same command.
    """
    from .runs.generate import Request, prepare, repeat, run
    from .runs.store import Store

    request = Request(
        rules=(rule,) if compare is None else tuple(name.strip() for name in compare.split(",")),
        prior=prior,
        size=None if size is None else _size(size),
        label=label,
        weight=weight,
        solver=solver,
        steps=steps,
        settings=dict(_pair(text) for text in setting or []),
        weak=weak,
        tuned=tuned,
        classifier=classifier,
        samples=n,
        reference=reference,
        seed=seed,
        chunk=chunk,
        device=device,
    )
    job = prepare(request if record is None else repeat(record))
    with _progress() as progress:
        bar = progress.add_task(job.plan.title, total=None)
        results, before = run(
            job, Store(out), lambda done, total: progress.update(bar, completed=done, total=total)
        )
    heads, rows = results.table()
    # Plain, so that a narrow window breaks lines and does not cut columns.
    lines = [heads, *rows] if heads else rows
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        text = "  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True))
        console.print(text.rstrip(), soft_wrap=True, highlight=False, markup=False)
    for sentence in results.legend():
        console.print(sentence, soft_wrap=True, highlight=False, markup=False)
    _finish(out, before)


def _finish(out: Path, before: bool) -> None:
    if before:
        console.print("This run was finished before; nothing was drawn again.")
    console.print(f"Results: {out}; look at {out / 'report.html'}", soft_wrap=True)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise InputError(f"--size takes HEIGHTxWIDTH in pixels, such as 96x64; {text!r} is not.")
    return int(height), int(width)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise InputError(f"--set takes NAME=VALUE; {text!r} is not.")
    return name.strip(), value.strip()


@app.command("list")
def show(
    what: Annotated[str, typer.Argument(metavar="[priors|samplers|rules|operators]")] = "all",
) -> None:
    """Explain what exists."""
    from .guidance import RULES
    from .priors import SHIPPED
    from .problems.image import TASKS
    from .runs.rules import by_classifier
    from .samplers import POSTERIOR_SAMPLERS, TILTED_SAMPLERS

    kinds = ["priors", "samplers", "rules", "operators"]
    if what not in [*kinds, "all"]:
        raise unknown("list", what, kinds)
    if what in {"priors", "all"}:
        rows = [
            (p.name, p.about, f"{len(p.examples)} held-out pictures") for p in SHIPPED.values()
        ]
        rows.append((
            "diffusers:NAME",
            "any pixel model in diffusers' format: a folder or a hub name",
            "",
        ))
        _table("Priors", ("name", "draws", ""), rows)
    if what in {"samplers", "all"}:
        _table(
            "Samplers",
            ("name", "method", "needs", "published settings (--preset)"),
            [
                (name, _first_line(kind), kind.needs, ", ".join(kind.presets()))
                for name, kind in POSTERIOR_SAMPLERS.items()
            ],
        )
        console.print(
            "--sampler auto chooses: exact for up to 16 measurements, mgps for more, and mgdm for noise that is "
            "not Gaussian. Why: docs/samplers.md",
            soft_wrap=True,
        )
        console.print("Settings, each of which --set changes:", soft_wrap=True)
        for kind in POSTERIOR_SAMPLERS.values():
            console.print(repr(kind()), soft_wrap=True, highlight=False)
    if what in {"rules", "all"}:
        rules = [(name, _first_line(kind), kind.needs) for name, kind in RULES.items()]
        rules += [(name, _first_line(kind), kind.needs) for name, kind in TILTED_SAMPLERS.items()]
        _table("Rules (posteria generate)", ("name", "method", "needs"), rules)
        console.print(
            "Samplers of a posterior that take any likelihood draw with a classifier's word for the label: "
            f"{', '.join(by_classifier())}.",
            soft_wrap=True,
        )
    if what in {"operators", "all"}:
        rows = [
            (name, task.about, " ".join(f"--{_flag(option)}" for option in task.uses))
            for name, task in TASKS.items()
        ]
        _table("Operators", ("task", "what happens", "options"), rows)


def _flag(option: str) -> str:
    return "data-seed" if option == "seed" else option


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").split("\n")[0]


def _table(title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(*heads, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


@app.command()
def version() -> None:
    """Print the version."""
    console.print(__version__)


def main() -> None:
    """Run the command line; an error that a user can act on is one sentence and exit code 1."""
    try:
        app()
    except PosteriaError as error:
        print(f"posteria: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("posteria: stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
