"""The commands."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import InputError, PosteriaError, unknown
from ..core.threads import wait_briefly
from ..runs.request import Generate, Restore
from ..version import __version__
from . import options as o
from .codes import IN_WORDS, STOPPED
from .output import Output, say

KINDS = ("priors", "samplers", "rules", "operators")
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Sample what a pre-trained diffusion model is tilted towards.",
    epilog=IN_WORDS,
)


def run() -> None:
    """Run the command line."""
    wait_briefly()
    app(prog_name="posteria")


def _version(wanted: bool) -> None:
    if wanted:
        say(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    pass


def _command(name: str, example: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose errors are one sentence."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except PosteriaError as error:
                print(f"posteria: {error}", file=sys.stderr)
                raise typer.Exit(1) from error
            except KeyboardInterrupt as error:
                raise typer.Exit(STOPPED) from error

        app.command(name, epilog=f"{example} {IN_WORDS}".strip())(guarded)
        return function

    return register


@_command(
    "restore",
    "Example: posteria restore photo.png --fit --task inpaint --mask hole.png --out mine.",
)
def restore(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT]",
            help="A file of the prior's kind of data, or an array (.npy, .npz); default: one that ships.",
        ),
    ] = None,
    input_kind: Annotated[
        str | None,
        o.option(
            "clean (the measurement is simulated from it; default for pictures) or measurement.",
            o.INPUT,
        ),
    ] = None,
    fit: Annotated[
        bool, o.option("Crop, resize and convert the picture to what the prior takes.", o.INPUT)
    ] = False,
    task: Annotated[
        str, o.option("Degradation; see `posteria list operators`.", o.MEASUREMENT)
    ] = "inpaint",
    mask: Annotated[
        str | None,
        o.option(
            "box, half, expand, random, or a FILE: white is seen, black is missing.", o.MEASUREMENT
        ),
    ] = None,
    share: Annotated[
        float | None, o.option("Share of the pixels that is seen (random mask).", o.MEASUREMENT)
    ] = None,
    factor: Annotated[
        int | None, o.option("Side of the averaged blocks (sr).", o.MEASUREMENT)
    ] = None,
    kernel: Annotated[
        str | None,
        o.option("gaussian, or a FILE with the point spread function (blur).", o.MEASUREMENT),
    ] = None,
    blur: Annotated[
        float | None, o.option("Width of the blur in pixels (blur, motion).", o.MEASUREMENT)
    ] = None,
    quality: Annotated[
        int | None, o.option("Of the JPEG, 1 to 100 (jpeg).", o.MEASUREMENT)
    ] = None,
    bits: Annotated[int | None, o.option("Of a pixel (quantize).", o.MEASUREMENT)] = None,
    task_option: Annotated[
        list[str] | None,
        o.option("Another option of the task, as NAME=VALUE.", o.MEASUREMENT, "--option"),
    ] = None,
    sigma: Annotated[
        float,
        o.option(
            "Standard deviation of the noise in data units; pictures span [-1, 1].", o.MEASUREMENT
        ),
    ] = 0.05,
    data_seed: Annotated[
        int | None,
        o.option(
            "Seed of simulated noise, random masks and motion kernels; default: --seed.",
            o.MEASUREMENT,
        ),
    ] = None,
    prior: o.Prior = "digits",
    size: o.Size = None,
    label: Annotated[
        int | None, o.option("Class, for a prior that knows labels.", o.MODEL)
    ] = None,
    sampler: Annotated[
        str, o.option("Sampler; see `posteria list samplers`. Or auto.", o.SAMPLER)
    ] = "mgdm",
    preset: Annotated[
        str | None, o.option("Published settings of the sampler.", o.SAMPLER)
    ] = None,
    steps: o.Steps = None,
    budget: Annotated[
        int | None,
        o.option(
            "Evaluations and vjps of the prior per sample, from which the steps follow.", o.SAMPLER
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        o.option(
            "Another setting of the sampler, such as gibbs=2 or index=Midpoint().",
            o.SAMPLER,
            "--set",
        ),
    ] = None,
    samples: Annotated[int, o.option("Number of samples.", o.SAMPLES)] = 8,
    seed: o.Seed = 0,
    chunk: o.Chunk = None,
    device: o.Device = "cpu",
    out: Annotated[Path, o.option("Folder for the results.", o.OUTPUT)] = Path("posteria-run"),
    record: o.Record = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Sample the images consistent with a degraded one, and their uncertainty.

    A run that was stopped goes on when the same command is started again, also with more samples.
    """
    of_task: dict[str, Any] = {
        "mask": mask,
        "share": share,
        "factor": factor,
        "kernel": kernel,
        "blur": blur,
        "quality": quality,
        "bits": bits,
        **o.pairs(task_option, "--option"),
    }
    request = Restore(
        input=source,
        input_kind=input_kind,
        task=task,
        options={name: value for name, value in of_task.items() if value is not None},
        sigma=sigma,
        prior=prior,
        size=o.size_of(size),
        label=label,
        sampler=sampler,
        preset=preset,
        steps=steps,
        budget=budget,
        settings=o.pairs(setting),
        samples=samples,
        seed=seed,
        data_seed=data_seed,
        chunk=chunk,
        fit=fit,
        device=device,
    )
    o.alone(context, record)
    request.check()
    # What is heavy is imported once the request is known to make sense.
    from ..runs.restore import prepare, repeat

    Output(quiet, as_json).do(prepare(repeat(record) if record else request), out)


@_command(
    "generate", "Example: posteria generate --label 3 --compare cfg,apg --n 64 --out threes."
)
def generate(
    context: typer.Context,
    label: Annotated[int | None, o.option("The class to draw.", o.LABEL)] = None,
    weight: Annotated[
        float,
        o.option("Power of the label: 1 is the conditional law, 0 the prior's own.", o.LABEL),
    ] = 2.0,
    rule: Annotated[
        str | None, o.option("Rule or sampler; see `posteria list rules`; default: cfg.", o.RULES)
    ] = None,
    compare: Annotated[
        str | None,
        o.option("Several rules, such as cfg,cfgig,apg, side by side on the same seeds.", o.RULES),
    ] = None,
    solver: Annotated[
        str | None, o.option("heun, ddim, ddpm or dpmpp2m; default: what suits the rule.", o.RULES)
    ] = None,
    steps: Annotated[int | None, o.option("Steps of the noise schedule.", o.RULES)] = None,
    setting: Annotated[
        list[str] | None,
        o.option(
            "Another setting of the rule, such as eta=0.5, or of one rule: apg.eta=0.5.",
            o.RULES,
            "--set",
        ),
    ] = None,
    weak: Annotated[
        str | None, o.option("A weaker prior, for rules that push away from one.", o.RULES)
    ] = None,
    tuned: Annotated[
        str | None, o.option("A tuned prior, for rules that follow one.", o.RULES)
    ] = None,
    classifier: Annotated[
        str | None,
        o.option("Classifier that judges, and guides; default: the prior's own.", o.RULES),
    ] = None,
    prior: o.Prior = "digits",
    size: o.Size = None,
    n: Annotated[
        int, o.option("Number of samples, of each rule.", o.SAMPLES, "--n", "--samples")
    ] = 16,
    reference: Annotated[
        int | None,
        o.option(
            "Draws from the conditional law to compare with; default: --n with --compare, else 0.",
            o.SAMPLES,
        ),
    ] = None,
    seed: o.Seed = 0,
    chunk: o.Chunk = None,
    device: o.Device = "cpu",
    out: Annotated[Path, o.option("Folder for the results.", o.OUTPUT)] = Path("posteria-draws"),
    record: o.Record = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Sample the signals of a label, with the label raised to a power, by one guidance rule or several.

    A run that was stopped goes on when the same command is started again, also with more samples.
    """
    if rule is not None and compare is not None:
        raise InputError("Give --rule or --compare, not both.")
    rules = tuple(name.strip() for name in (compare or rule or "cfg").split(","))
    request = Generate(
        rules=rules,
        prior=prior,
        size=o.size_of(size),
        label=label,
        weight=weight,
        solver=solver,
        steps=steps,
        settings=o.pairs(setting),
        weak=weak,
        tuned=tuned,
        classifier=classifier,
        samples=n,
        reference=reference,
        seed=seed,
        chunk=chunk,
        device=device,
    )
    o.alone(context, record)
    request.check()
    from ..runs.generate import prepare, repeat

    Output(quiet, as_json).do(prepare(repeat(record) if record else request), out)


@_command("list", "Example: posteria list samplers mgps.")
def show(
    what: Annotated[
        str | None, typer.Argument(metavar="[priors|samplers|rules|operators]")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One of them, with its settings.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explain what exists."""
    if what is not None and what not in KINDS:
        raise unknown("list", what, KINDS)
    from .catalogue import print_catalogue

    print_catalogue(what, name, as_json)


@_command("cite", "Example: posteria cite mgdm heun.")
def cite(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Samplers, rules and solvers; default: posteria itself."),
    ] = None,
) -> None:
    """Print what to cite, as BibTeX."""
    from ..citations import cite as bibtex
    from ..guidance import RULES
    from ..samplers import SAMPLERS
    from ..solvers import SOLVERS

    known: dict[str, type] = {**SAMPLERS, **RULES, **SOLVERS}
    for name in names or []:
        if name not in known:
            raise unknown("sampler, rule or solver", name, known)
    say(bibtex(*(known[name]() for name in names or [])).rstrip())


@_command("version")
def version() -> None:
    """Print the version."""
    say(__version__)
