"""The way of a request from the command line to a job: which rooms have a part in it, and how often it comes back."""

import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from types import FrameType

import pytest

import posteria
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
