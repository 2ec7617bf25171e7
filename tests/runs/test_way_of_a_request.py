"""The way of a request from the command line to a job: which rooms have a part in it, and how often it comes back."""

import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from types import FrameType

import pytest
import torch

import posteria
from common.command import DIGIT
from posteria.priors import SHIPPED
from posteria.runs.jobs import certify, restore
from posteria.runs.request import Certify, Restore

SOURCE = Path(posteria.__file__).parent
# What hands a request on; the ground floor (errors, records, seeds) is not counted.
HERE, GROUND = "runs", "core"


def room(frame: FrameType | None) -> str | None:
    path = Path(frame.f_code.co_filename) if frame else Path()
    return path.relative_to(SOURCE).parts[0] if path.is_relative_to(SOURCE) else None


def way(work: Callable[[], object]) -> list[str]:
    """The rooms that the work is handed to, in order."""
    found = list[str]()

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and room(frame.f_back) == HERE:
            to = room(frame)
            if to not in {None, HERE, GROUND}:
                found.append(str(to).removesuffix(".py"))

    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
    return [name for name, _ in groupby(found)]


@pytest.mark.parametrize(
    ("given", "real"),
    [({}, False), ({"prior": "digits", "sampler": "mgdm", "steps": 5}, True)],
    ids=["demonstration", "input"],
)
def test_a_request_to_restore_goes_straight_on(given: dict[str, object], real: bool) -> None:
    # Catches: a request that goes to and fro between rooms, what was decided once decided again elsewhere.
    example = str(SHIPPED["digits"].examples[0])
    request = Restore(
        **given, **({"input": example, "task": "denoise", "sigma": 0.1} if real else {})
    )  # type: ignore[arg-type]
    rooms = way(lambda: restore.prepare(request))
    # With the command line and the runs themselves. A demonstration looks at the sampler twice: by its name, before
    # anything is loaded, and at the levels that the network knows.
    assert len({*rooms}) + 2 <= 7, rooms
    assert len(rooms) - len({*rooms}) <= (4 if real else 5), rooms


def test_so_does_one_to_certify() -> None:
    request = Certify(prior="digits-mixture", task="inpaint", sampler="mmps", simulations=10)
    rooms = way(lambda: certify.prepare(request))
    assert len(rooms) - len({*rooms}) <= 4, rooms


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("samples", "8"),
        ("samples", 2.0),
        ("seed", "0"),
        ("sigma", "0.1"),
        ("fast", "autocast"),
        ("size", 24),
        ("settings", {"eta": 0.5}),
        ("device", torch.device("cpu")),
        ("input", DIGIT),
    ],
)
def test_a_request_in_python_is_held_to_its_types(field: str, value: object) -> None:
    # Catches: a TypeError from the middle of a run, or at its end where the record is written; "ways" of a string's
    # letters; a level of noise that is a word and is not compared with anything.
    with pytest.raises(posteria.InputError, match=f"{field} takes|eta takes"):
        Restore(**{"task": "denoise", field: value}).check()
