"""What the studies share: rows in a file, to which a run adds what is not there yet, pages of them, and priors."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

import posteria as po
from posteria.core.errors import expect
from shipping import fill

RESULTS = Path(__file__).parent.parent / "results"
DOCS = RESULTS.parent.parent / "docs"
Row = dict[str, Any]
# What a row is of, with its method, and what measures it.
Cell = tuple[Row, Callable[[], Row]]


def rows(path: Path, study: str | None = None) -> list[Row]:
    """What is kept, of a study or of all."""
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in found if study in (None, row.get("study"))]


def by_method(kept: Iterable[Row], of: str, key: str, **same: object) -> dict[str, dict[Any, Row]]:
    """Rows that have a key and the same values as these, by method and by what they are of, such as a `track`."""
    found: dict[str, dict[Any, Row]] = {}
    for row in kept:
        if key in row and same.items() <= row.items():
            found.setdefault(row["method"], {})[row[of]] = row
    return found


def common(found: Mapping[str, Mapping[Any, Row]]) -> dict[str, dict[Any, Row]]:
    """The rows of what all methods were drawn for."""
    shared = sorted(set.intersection(*map(set, found.values()))) if found else []
    return {method: {each: rows[each] for each in shared} for method, rows in found.items()}


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


def write_parts(name: str, parts: Mapping[str, str]) -> None:
    """Put generated parts into a page of the documentation; `ValueError` if it has no marks for one."""
    fill(DOCS / name, parts)


@cache
def prior(name: str, size: int | tuple[int, ...]) -> po.Network:
    """A shipped prior of signals of a size; in half precision where that is fast."""
    dtype = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    return expect(po.load_prior(name, size=size, dtype=dtype), po.Network, by="A study")
