"""The options that several commands have. Each panel of the help has an example in its title."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..core.errors import InputError

if TYPE_CHECKING:
    from ..runs.request import Request

R = TypeVar("R", bound="Request")


def panel(title: str) -> Callable[..., Any]:
    """Makes options, from a text and names, in a panel of the help."""

    def option(text: str, *names: str) -> Any:
        return typer.Option(*names, help=text, rich_help_panel=title)

    return option


source = panel("Input, such as photo.png --fit, or clean.png --simulate")
task = panel("Measurement, such as --task sr --factor 4 --sigma 0.02")
label = panel("What is drawn, such as --label 3 --weight 4")
rules = panel("Rules, such as --compare cfg,apg --set apg.eta=0.5")
model = panel("Prior, such as --prior satellite --size 96x96")
sampler = panel("Sampler, such as --sampler mgps --steps 50")
simulations = panel("Simulations, such as --simulations 200 --statistics projections,distance")
samples = panel("Samples, such as --samples 16 --seed 100")
output = panel("Output, such as --out results --quiet")

Prior = Annotated[
    str, model("Prior; see `posteria list priors`. Or diffusers:FOLDER-OR-HUB-NAME.")
]
Size = Annotated[
    str | None,
    model(
        "HEIGHTxWIDTH, or the LENGTH of a signal, to run a prior at another size than it was trained at."
    ),
]
Task = Annotated[str, task("Degradation; see `posteria list operators`.")]
Mask = Annotated[
    str | None,
    task(
        "FILE, or box, half, expand, random (inpaint); default: what INPUT itself lacks, or box to simulate."
    ),
]
Hole = Annotated[
    str | None,
    task(
        "What marks the hole in the mask, or in INPUT without one: black (the default of a mask), white, transparent "
        "(of INPUT; also NaN), or a colour such as '#ff00ff' (inpaint)."
    ),
]
Share = Annotated[float | None, task("Share of the pixels that is seen, at random (inpaint).")]
Factor = Annotated[int | None, task("How many times larger the sides of the result are (sr).")]
By = Annotated[str | None, task("How the picture became small: average or bicubic (sr).")]
Kernel = Annotated[
    str | None,
    task(
        "gaussian, motion, shake, or a FILE with the point spread function (blur), or the impulse response (reverb)."
    ),
]
BlurWidth = Annotated[float | None, task("Width of a Gaussian in pixels, or of a shake (blur).")]
Length = Annotated[float | None, task("Length of a straight motion in pixels (blur).")]
Angle = Annotated[
    float | None, task("Its angle in degrees, counter-clockwise from the right (blur).")
]
Quality = Annotated[int | None, task("Of the JPEG, 1 to 100; default: the file's own (jpeg).")]
Bits = Annotated[int | None, task("Of a pixel (quantize).")]
Gain = Annotated[float | None, task("Factor of the contrast before values were clipped (clip).")]
Keep = Annotated[
    str | None, task("Leads of an ECG that were measured, such as I,II (leads, gap, bedside).")
]
Stereo = Annotated[str | None, task("Of two channels: mid, side, left or right (sound).")]
Gap = Annotated[
    str | None,
    task(
        "START-END in seconds, several with commas; default: where INPUT is silent to the last bit (gap)."
    ),
]
Level = Annotated[
    float | None,
    task("Of full scale, at which it was clipped; default: its largest sample (declip)."),
]
Cutoff = Annotated[
    float | None, task("Hz above which all is lost; default: half the rate of INPUT (bandwidth).")
]
Options = Annotated[
    list[str] | None, task("Another option of the task, as NAME=VALUE.", "--option")
]
Sigma = Annotated[
    str | None,
    task(
        "Standard deviation of the noise: in data units, where pictures span [-1, 1]; in grey levels, as 5/255; or "
        "auto, to estimate that of INPUT. Default: 0.05, of sound 0.01, of jpeg and quantize 1/255, of denoise auto."
    ),
]
MemberLabel = Annotated[int | None, model("Class, for a prior that knows labels.")]
Prompt = Annotated[str | None, model("Text, for a prior that reads texts.")]
Negative = Annotated[str | None, model("Text that stands for no condition.")]
Fast = Annotated[
    str | None,
    model(
        "Evaluate its network faster: autocast (bfloat16), channels_last, compile, graphs (CUDA); or in less memory: "
        "checkpoint, bfloat16 or float16 (its weights); several with commas."
    ),
]
PosteriorSampler = Annotated[str, sampler("See `posteria list samplers`. Or auto.")]
Preset = Annotated[str | None, sampler("Published settings of the sampler.")]
Budget = Annotated[
    int | None, sampler("Evaluations and vjps per sample, from which the steps follow.")
]
Settings = Annotated[
    list[str] | None, sampler("Another setting, such as index=Midpoint().", "--set")
]
Steps = Annotated[int | None, sampler("Steps of the noise schedule.")]
Seed = Annotated[int, samples("Seed of the first sample; the others count up.")]
Chunk = Annotated[
    str | None,
    samples(
        "Samples drawn in one batch; auto: as many as memory allows; default: 8, or 16 for generate."
    ),
]
Device = Annotated[str, samples("cpu or cuda.")]
Out = Annotated[Path, output("Folder for the results.")]
Record = Annotated[
    Path | None,
    output("The run.json of an earlier run, to repeat it; no other options of the run."),
]
Quiet = Annotated[bool, output("Print errors only.", "--quiet", "-q")]
Json = Annotated[bool, output("Print the table as JSON, and nothing else.", "--json")]
# Options that may stand beside --record.
BESIDE_RECORD = {"record", "out", "quiet", "as_json", "certificate"}


def request(kind: type[R], context: typer.Context, **changes: Any) -> R:
    """The checked request whose fields the options of a command name, or that of the record that they name.

    Args:
        kind: Its class.
        context: Of the command.
        changes: Fields that are not as they were given.

    Raises:
        InputError: If it makes no sense whatever the prior is, or there is no such record.
    """
    given, names = context.params, {field.name for field in dataclasses.fields(kind)}
    plain = {k: value for k, value in given.items() if k in names and value is not None}
    size, settings = size_of(given["size"]), pairs(given["settings"])
    fast = tuple(filter(None, (given["fast"] or "").split(",")))
    if "chunk" in plain:
        plain["chunk"] = chunk_of(plain["chunk"])
    made = kind(**{**plain, "size": size, "settings": settings, "fast": fast, **changes})
    alone(context)
    made.check()
    if given["record"] is None:
        return made
    from ..runs.job import repeat

    return repeat(kind, Path(given["record"]))


# Options of a task that have an option of the command line by their name.
TASK_OPTIONS = (
    *("mask", "hole", "share", "factor", "by", "kernel", "blur", "length", "angle"),
    *("quality", "bits", "gain", "keep", "stereo", "gap", "level", "cutoff"),
)


def measured(kind: type[R], context: typer.Context, **changes: Any) -> R:
    """The same for what measures by a task, whose options it gathers."""
    given = context.params
    flags = {name: given[name] for name in TASK_OPTIONS if given.get(name) is not None}
    others = pairs(given["options"], "--option")
    for name in flags.keys() & others.keys():
        raise InputError(f"--{name} and --option {name}={others[name]} are the same; give one.")
    sigma = {} if given["sigma"] is None else {"sigma": sigma_of(given["sigma"])}
    return request(kind, context, options=flags | others, **sigma, **changes)


def chunk_of(text: str | int) -> int | str:
    """How many samples are drawn at once: a number, or auto."""
    if text == "auto" or isinstance(text, int):
        return text
    if not text.isdecimal():
        raise InputError(f"--chunk is a number of samples, or auto; {text!r} is neither.")
    return int(text)


def sigma_of(text: str) -> float | None:
    """A standard deviation in data units from a number, a share of the range such as 5/255, or auto (None)."""
    value, sign, white = text.partition("/")
    try:
        # Data units span 2 from black to white.
        return None if text == "auto" else 2 * float(value) / float(white) if sign else float(text)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"--sigma is a number in data units, grey levels such as 5/255, or auto; {text!r} is none of them."
        ) from error


def alone(context: typer.Context) -> None:
    """Raise `InputError` if a record is given that does not exist, or other options of a run beside it."""
    record = context.params["record"]
    if record is None:
        return
    # A context has texts in older versions of typer.
    if not Path(record).exists():
        raise InputError(f"There is no file {record}.")
    for name, value in context.params.items():
        # Inputs that were not given are none or an empty list, which some versions of typer take for given.
        source = None if value in (None, [], ()) else context.get_parameter_source(name)
        if name not in BESIDE_RECORD and source is not None and source.name == "COMMANDLINE":
            raise InputError(
                f"--record repeats a run as it was; leave {_flag(name)} out, or give the command without --record."
            )


def _flag(name: str) -> str:
    names = {"inputs": "INPUT", "settings": "--set", "options": "--option"}
    return names.get(name, f"--{name.replace('_', '-')}")


def size_of(text: str | None) -> tuple[int, ...] | None:
    """Height and width from HEIGHTxWIDTH, or a length."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise InputError(
            "--size takes HEIGHTxWIDTH in pixels, such as 96x64, or the length of a signal, such as 1000; "
            f"{text!r} is not."
        )
    return tuple(map(int, sides))


def pairs(texts: list[str] | None, flag: str = "--set") -> dict[str, str]:
    """Names and values from NAME=VALUE."""
    found = {}
    for text in texts or []:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InputError(f"{flag} takes NAME=VALUE; {text!r} is not.")
        if name.strip() in found:
            raise InputError(f"{flag} {name.strip()} is given twice.")
        found[name.strip()] = value.strip()
    return found
