"""Rows of a study in a file, one JSON object a line, to which a run adds what is not there yet."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
# What a row is of, with its method, and what measures it.
Cell = tuple[Row, Callable[[], Row]]


def rows(path: Path, study: str | None = None) -> list[Row]:
    """What is kept, of a study or of all."""
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in found if study in (None, row.get("study"))]


def keep(path: Path, row: Row) -> None:
    """Add a row, without what is no number."""
    known = {k: v for k, v in row.items() if not (isinstance(v, float) and math.isnan(v))}
    with path.open("a") as file:
        file.write(json.dumps(known) + "\n")


def draw(path: Path, cells: Iterable[Cell], shown: str, methods: Sequence[str] = ()) -> None:
    """Draw what is not kept yet; of these methods, or of all if there are none. What is shown is printed."""
    kept = rows(path)
    for key, run in cells:
        if (methods and key["method"] not in methods) or any(
            key.items() <= row.items() for row in kept
        ):
            continue
        row = key | run()
        keep(path, row)
        print(*key.values(), row.get(shown, row.get("note")), flush=True)
