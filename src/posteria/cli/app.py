"""The commands."""

import functools
import gc
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import InputError, PosteriaError, unknown
from ..core.threads import wait_briefly
from ..version import __version__
from . import options as o
from .codes import IN_WORDS, STOPPED
from .output import Output, say

KINDS = ("priors", "samplers", "rules", "operators")
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Sample posteriors and guided laws, with a pre-trained diffusion model as the prior.",
    epilog=IN_WORDS,
)


def run() -> None:
    """Run the command line."""
    wait_briefly()
    # A sentence, as an error is one, and not the place in the code that gives it.
    warnings.formatwarning = lambda message, *_, **__: f"posteria: {message}\n"
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
            gc.enable()
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
    "Example: posteria restore photo.png --task inpaint --mask hole.png --hole white --sigma auto --out mine.",
)
def restore(
    context: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT]...",
            help="The measurement: a picture or another signal, or an array (.npy, .npz); several, or a folder of "
            "them: a run of each. Without one: a demonstration.",
        ),
    ] = None,
    simulate: Annotated[
        bool, o.source("INPUT is clean: degrade it first, and compare the samples with it.")
    ] = False,
    fit: Annotated[bool, o.source("Crop, resize and convert the picture for the prior.")] = False,
    task: Annotated[
        str | None, o.task("What INPUT went through; see `posteria list operators`.")
    ] = None,
    mask: o.Mask = None,
    hole: o.Hole = None,
    share: o.Share = None,
    factor: o.Factor = None,
    by: o.By = None,
    kernel: o.Kernel = None,
    blur: o.BlurWidth = None,
    length: o.Length = None,
    angle: o.Angle = None,
    quality: o.Quality = None,
    bits: o.Bits = None,
    gain: o.Gain = None,
    keep: o.Keep = None,
    stereo: o.Stereo = None,
    gap: o.Gap = None,
    level: o.Level = None,
    cutoff: o.Cutoff = None,
    options: o.Options = None,
    sigma: o.Sigma = None,
    data_seed: Annotated[
        int | None, o.task("Seed of simulated noise, random masks and shakes; default: --seed.")
    ] = None,
    prior: Annotated[
        str | None,
        o.model(
            "Prior; see `posteria list priors`; default: photo, of photographs. Or diffusers:FOLDER-OR-HUB-NAME."
        ),
    ] = None,
    size: o.Size = None,
    fast: o.Fast = None,
    label: o.MemberLabel = None,
    prompt: o.Prompt = None,
    negative: o.Negative = None,
    weight: Annotated[float, o.model("Power of the class or the text; 1 is its own law.")] = 1.0,
    sampler: Annotated[
        str | None,
        o.sampler(
            "See `posteria list samplers`. Or auto. Default: mmps for photo and ecg, daps for gap of ecg and for "
            "satellite, ddrm for stems, reverse for denoise, otherwise mgdm."
        ),
    ] = None,
    preset: o.Preset = None,
    steps: o.Steps = None,
    budget: o.Budget = None,
    settings: o.Settings = None,
    samples: Annotated[int, o.samples("Number of samples.", "--n", "--samples")] = 8,
    seed: o.Seed = 0,
    chunk: o.Chunk = None,
    device: o.Device = "cpu",
    certificate: Annotated[
        str | None,
        o.output("Folder of `posteria certify`, or one of several, to state what it says."),
    ] = None,
    out: o.Out = Path("posteria-run"),
    record: o.Record = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Sample the images, ECGs or songs consistent with a degraded one, and their uncertainty.

    A run that was stopped goes on when the same command is started again, also with more samples.
    """
    from ..runs.request import Restore

    several = len(inputs or []) > 1 or any(Path(name).is_dir() for name in inputs or [])
    if several and len(inputs or []) == 1:
        from ..modalities import one_input

        several = not one_input(Path((inputs or [""])[0]), prior)
    request = o.measured(Restore, context, input=None if several or not inputs else inputs[0])
    # What is heavy is imported once the request is known to make sense.
    from ..runs.jobs.restore import prepare

    if several:
        Output(quiet, as_json).do_all(request, inputs or [], out)
        return
    Output(quiet, as_json).do(prepare(replace(request, certificate=certificate)), out)


@_command(
    "certify",
    "Example: posteria certify --task sr --factor 4 --sampler mmps --steps 50 --out certificates/mmps.",
)
def certify(
    context: typer.Context,
    simulations: Annotated[
        int, o.simulations("Truths that are drawn, measured and sampled, at least 10.")
    ] = 100,
    samples: Annotated[
        int, o.simulations("Samples that each truth is ranked among, at least 4.")
    ] = 19,
    statistics: Annotated[
        str | None,
        o.simulations(
            "What is ranked, of entries,projections,mean,log-likelihood,distance,depth; default: all."
        ),
    ] = None,
    levels: Annotated[
        int | None,
        o.simulations(
            "Levels to which signals are rounded before they are ranked; 0: none; default: 256 for pictures."
        ),
    ] = None,
    truth_steps: Annotated[
        int, o.simulations("Steps of the solver (Heun) that draws truths from the prior.")
    ] = 64,
    task: o.Task = "inpaint",
    mask: o.Mask = None,
    hole: o.Hole = None,
    share: o.Share = None,
    factor: o.Factor = None,
    by: o.By = None,
    kernel: o.Kernel = None,
    blur: o.BlurWidth = None,
    length: o.Length = None,
    angle: o.Angle = None,
    quality: o.Quality = None,
    bits: o.Bits = None,
    gain: o.Gain = None,
    keep: o.Keep = None,
    options: o.Options = None,
    sigma: o.Sigma = None,
    data_seed: Annotated[
        int | None, o.task("Seed of random masks and shakes; default: 0.")
    ] = None,
    prior: o.Prior = "digits",
    size: o.Size = None,
    fast: o.Fast = None,
    label: o.MemberLabel = None,
    sampler: o.PosteriorSampler = "mgdm",
    preset: o.Preset = None,
    steps: o.Steps = None,
    budget: o.Budget = None,
    settings: o.Settings = None,
    seed: Annotated[int, o.simulations("Seed of the first simulation; the others count up.")] = 0,
    chunk: Annotated[
        int | None, o.simulations("Samples drawn in one batch, about; default: 64.")
    ] = None,
    device: o.Device = "cpu",
    out: o.Out = Path("posteria-certificate"),
    record: o.Record = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Test by simulations whether a sampler's uncertainty can be trusted, for a prior, a task and a noise.

    A run that was stopped goes on when the same command is started again, also with more simulations.
    """
    from ..runs.request import Certify

    names = tuple(name.strip() for name in (statistics or "").split(",") if name.strip())
    request = o.measured(Certify, context, statistics=names)
    from ..runs.jobs.certify import prepare

    Output(quiet, as_json).do(prepare(request), out)


@_command(
    "generate", "Example: posteria generate --label 3 --compare cfg,apg --n 64 --out threes."
)
def generate(
    context: typer.Context,
    label: Annotated[int | None, o.label("The class to draw.")] = None,
    prompt: o.Prompt = None,
    negative: o.Negative = None,
    weight: Annotated[
        float,
        o.label("Power of the class or the text: 1 is the conditional law, 0 the prior's own."),
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
    fast: o.Fast = None,
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
    """Sample the signals of a class or a text raised to a power, by one guidance rule or several.

    A run that was stopped goes on when the same command is started again, also with more samples.
    """
    from ..runs.request import Generate

    if rule is not None and compare is not None:
        raise InputError("Give --rule or --compare, not both.")
    names = next((given for given in (compare, rule) if given is not None), "cfg").split(",")
    request = o.request(Generate, context, rules=tuple(name.strip() for name in names))
    from ..runs.jobs.generate import prepare

    Output(quiet, as_json).do(prepare(request), out)


@_command("list", "Example: posteria list samplers mgps.")
def show(
    what: Annotated[
        str | None, typer.Argument(metavar="[priors|samplers|rules|operators]")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One of them, with its settings.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List priors, samplers, rules and operators, or explain one of them."""
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
