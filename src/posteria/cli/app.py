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
    input: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT]",
            help="A file of the prior's kind of data, or an array (.npy, .npz); default: one that ships.",
        ),
    ] = None,
    input_kind: Annotated[
        str | None,
        o.source("clean (the default for pictures: the measurement is simulated) or measurement."),
    ] = None,
    fit: Annotated[bool, o.source("Crop, resize and convert the picture for the prior.")] = False,
    task: Annotated[str, o.task("Degradation; see `posteria list operators`.")] = "inpaint",
    mask: Annotated[
        str | None, o.task("box, half, expand, random, or a FILE: white is seen, black missing.")
    ] = None,
    share: Annotated[float | None, o.task("Share of the pixels seen (random mask).")] = None,
    factor: Annotated[int | None, o.task("Side of the averaged blocks (sr).")] = None,
    kernel: Annotated[
        str | None, o.task("gaussian, or a FILE with the point spread function (blur).")
    ] = None,
    blur: Annotated[float | None, o.task("Width of the blur in pixels (blur, motion).")] = None,
    quality: Annotated[int | None, o.task("Of the JPEG, 1 to 100 (jpeg).")] = None,
    bits: Annotated[int | None, o.task("Of a pixel (quantize).")] = None,
    options: Annotated[
        list[str] | None, o.task("Another option of the task, as NAME=VALUE.", "--option")
    ] = None,
    sigma: Annotated[
        float, o.task("Standard deviation of the noise in data units; pictures span [-1, 1].")
    ] = 0.05,
    data_seed: Annotated[
        int | None, o.task("Seed of simulated noise, masks and motion kernels; default: --seed.")
    ] = None,
    prior: o.Prior = "digits",
    size: o.Size = None,
    label: Annotated[int | None, o.model("Class, for a prior that knows labels.")] = None,
    sampler: Annotated[str, o.sampler("See `posteria list samplers`. Or auto.")] = "mgdm",
    preset: Annotated[str | None, o.sampler("Published settings of the sampler.")] = None,
    steps: o.Steps = None,
    budget: Annotated[
        int | None, o.sampler("Evaluations and vjps per sample, from which the steps follow.")
    ] = None,
    settings: Annotated[
        list[str] | None, o.sampler("Another setting, such as index=Midpoint().", "--set")
    ] = None,
    samples: Annotated[int, o.samples("Number of samples.")] = 8,
    seed: o.Seed = 0,
    chunk: o.Chunk = None,
    device: o.Device = "cpu",
    out: o.Out = Path("posteria-run"),
    record: o.Record = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Sample the images consistent with a degraded one, and their uncertainty.

    A run that was stopped goes on when the same command is started again, also with more samples.
    """
    flags = {"mask": mask, "share": share, "factor": factor, "kernel": kernel}
    flags |= {"blur": blur, "quality": quality, "bits": bits}
    given = {name: value for name, value in flags.items() if value is not None}
    request = o.request(Restore, context, options=given | o.pairs(options, "--option"))
    # What is heavy is imported once the request is known to make sense.
    from ..runs.restore import prepare, repeat

    Output(quiet, as_json).do(prepare(repeat(record) if record else request), out)


@_command(
    "generate", "Example: posteria generate --label 3 --compare cfg,apg --n 64 --out threes."
)
def generate(
    context: typer.Context,
    label: Annotated[int | None, o.label("The class to draw.")] = None,
    weight: Annotated[
        float, o.label("Power of the label: 1 is the conditional law, 0 the prior's own.")
    ] = 2.0,
    rule: Annotated[
        str | None, o.rules("Rule or sampler; see `posteria list rules`; default: cfg.")
    ] = None,
    compare: Annotated[
        str | None,
        o.rules("Several rules, such as cfg,cfgig,apg, side by side on the same seeds."),
    ] = None,
    solver: Annotated[
        str | None, o.rules("heun, ddim, ddpm or dpmpp2m; default: what suits the rule.")
    ] = None,
    steps: Annotated[int | None, o.rules("Steps of the noise schedule.")] = None,
    settings: Annotated[
        list[str] | None,
        o.rules("Another setting, such as eta=0.5, or of one rule: apg.eta=0.5.", "--set"),
    ] = None,
    weak: Annotated[
        str | None, o.rules("Weaker prior, for rules that push away from one.")
    ] = None,
    tuned: Annotated[str | None, o.rules("Tuned prior, for rules that follow one.")] = None,
    classifier: Annotated[
        str | None, o.rules("Classifier that judges, and guides; default: the prior's own.")
    ] = None,
    prior: o.Prior = "digits",
    size: o.Size = None,
    samples: Annotated[
        int, o.samples("Number of samples, of each rule.", "--n", "--samples")
    ] = 16,
    reference: Annotated[
        int | None,
        o.samples("Draws from the conditional law to compare with; default: --n with --compare."),
    ] = None,
    seed: o.Seed = 0,
    chunk: o.Chunk = None,
    device: o.Device = "cpu",
    out: o.Out = Path("posteria-draws"),
    record: o.Record = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Sample the signals of a label, with the label raised to a power, by one guidance rule or several.

    A run that was stopped goes on when the same command is started again, also with more samples.
    """
    if rule is not None and compare is not None:
        raise InputError("Give --rule or --compare, not both.")
    names = (compare or rule or "cfg").split(",")
    request = o.request(Generate, context, rules=tuple(name.strip() for name in names))
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
