"""Dataclasses as JSON keeps them."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

import posteria as po
from posteria.core.record import as_json, from_json


@dataclass(frozen=True)
class Part:
    """A dataclass in another."""

    name: str
    share: float = 0.5


@dataclass(frozen=True)
class Record:
    """A field of each kind."""

    count: int
    level: float | None = None
    pair: tuple[int, float] = (1, 2.0)
    parts: tuple[Part, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    kind: Literal["a", "b"] = "a"
    whole: bool = False


def test_a_record_comes_back() -> None:
    # Catches: tuples that come back as lists, parts as dictionaries, a whole number of a float as an integer.
    record = Record(
        3, 1.5, (4, 5.0), (Part("x"), Part("y", 1.0)), {"psnr": 30.0}, ["a"], "b", whole=True
    )
    text = json.dumps(as_json(record))
    assert from_json(Record, json.loads(text)) == record
    assert from_json(Record, {"count": 3, "level": 2}) == Record(3, 2.0)
    assert isinstance(from_json(Record, {"count": 3, "level": 2}).level, float)
    assert json.loads(json.dumps(as_json(Record(1, float("nan")))))["level"] is None


WRONG: list[tuple[Any, str]] = [
    ([], "does not hold named values"),
    ({}, "count is missing"),
    ({"count": 1, "weight": 2}, "weight is not known"),
    ({"count": True}, "count takes int; True is not one"),
    ({"count": 1.0}, "count takes int"),
    ({"count": 1, "level": "2"}, "level takes float or None; '2' is not one"),
    ({"count": 1, "level": 10**400}, "level takes float or None"),
    ({"count": 1, "pair": [1]}, "pair takes 2 values"),
    ({"count": 1, "pair": [1, "2"]}, "pair takes float"),
    ({"count": 1, "parts": [{"share": 1.0}]}, "name is missing"),
    ({"count": 1, "scores": {"psnr": "30"}}, "scores takes float"),
    ({"count": 1, "kind": "c"}, "kind takes 'a' or 'b'"),
    ({"count": 1, "whole": 1}, "whole takes bool"),
]


@pytest.mark.parametrize(("content", "sentence"), WRONG)
def test_what_does_not_fit_is_refused(content: Any, sentence: str) -> None:
    # Catches: a record that was changed by hand and is read all the same, or ends in an error without a sentence.
    with pytest.raises(po.InputError, match=sentence):
        from_json(Record, content)
