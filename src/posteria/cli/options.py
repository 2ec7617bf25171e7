"""The options that several commands have. Each panel of the help has an example in its title."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import InputError

INPUT = "Input, such as photo.png --fit"
MEASUREMENT = "Measurement, such as --task sr --factor 4 --sigma 0.02"
LABEL = "What is drawn, such as --label 3 --weight 4"
RULES = "Rules, such as --compare cfg,apg --set apg.eta=0.5"
MODEL = "Prior, such as --prior emoji --size 96x96"
SAMPLER = "Sampler, such as --sampler mgps --steps 50"
SAMPLES = "Samples, such as --samples 16 --seed 100"
OUTPUT = "Output, such as --out results --quiet"


def option(text: str, panel: str, *names: str) -> Any:
    """An option in a panel of the help."""
    return typer.Option(*names, help=text, rich_help_panel=panel)


Prior = Annotated[
    str,
    option("Prior; see `posteria list priors`. Or diffusers:FOLDER-OR-HUB-NAME.", MODEL),
]
Size = Annotated[
    str | None,
    option("HEIGHTxWIDTH, to run a prior at another size than it was trained at.", MODEL),
]
Seed = Annotated[int, option("Seed of the first sample; the others count up.", SAMPLES)]
Chunk = Annotated[
    int | None, option("Samples drawn in one batch; default: 8, or 16 for generate.", SAMPLES)
]
Device = Annotated[str, option("cpu or cuda.", SAMPLES)]
Steps = Annotated[int | None, option("Steps of the noise schedule.", SAMPLER)]
Record = Annotated[
    Path | None,
    option("The run.json of an earlier run, to repeat it; no other options of the run.", OUTPUT),
]
Quiet = Annotated[bool, option("Print errors only.", OUTPUT, "--quiet", "-q")]
Json = Annotated[bool, option("Print the table as JSON, and nothing else.", OUTPUT, "--json")]
# Options that may stand beside --record.
BESIDE_RECORD = {"record", "out", "quiet", "as_json"}


def alone(context: typer.Context, record: Path | None) -> None:
    """Raise `InputError` if a record is given that does not exist, or other options of a run beside it."""
    if record is None:
        return
    if not record.exists():
        raise InputError(f"There is no file {record}.")
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in BESIDE_RECORD and source is not None and source.name == "COMMANDLINE":
            raise InputError(
                f"--record repeats a run as it was; leave {_flag(name)} out, or give the command without --record."
            )


def _flag(name: str) -> str:
    names = {"source": "INPUT", "setting": "--set", "task_option": "--option"}
    return names.get(name, f"--{name.replace('_', '-')}")


def size_of(text: str | None) -> tuple[int, int] | None:
    """Height and width from HEIGHTxWIDTH."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise InputError(f"--size takes HEIGHTxWIDTH in pixels, such as 96x64; {text!r} is not.")
    return int(height), int(width)


def pairs(texts: list[str] | None, flag: str = "--set") -> dict[str, str]:
    """Names and values from NAME=VALUE."""
    found = {}
    for text in texts or []:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InputError(f"{flag} takes NAME=VALUE; {text!r} is not.")
        found[name.strip()] = value.strip()
    return found
