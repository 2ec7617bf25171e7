"""Certificates of samplers on the shipped priors of digits: `python benchmarks/certificates.py draw` and `... table`.

- draw: simulations of every sampler on each task, a round after the other, so that all have about as many when it is
  stopped; it goes on where it was. 200 simulations take an hour a cell on a core, and minutes with `--device cuda`.
- table: puts the table of the certificates that there are into docs/certify.md, and keeps them in benchmarks/results;
  what is kept there and not in the folder stays.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch

from lib.study import RESULTS, write_parts
from lib.table import Table
from posteria.certification.certificate import Curve
from posteria.core.errors import PosteriaError
from posteria.runs.job import run
from posteria.runs.jobs.certify import prepare
from posteria.runs.request import Certify
from posteria.runs.store import Store

KEPT = RESULTS / "certificates.json"
TASKS: dict[str, dict[str, Any]] = {"sr": {"factor": 4}, "inpaint": {"mask": "box"}}
WORDS = {"sr": "averages of 4 x 4 pixels", "inpaint": "a box is missing"}
SAMPLERS = ("mmps", "daps", "mgdm", "pigdm", "dps")


def requests(given: argparse.Namespace) -> Iterator[tuple[str, Certify]]:
    """What is drawn, a round of so many simulations of each cell after the other, with the names of the folders."""
    same = {
        name: getattr(given, name) for name in ("prior", "budget", "samples", "chunk", "device")
    }
    same |= {"settings": dict(each.split("=") for each in given.settings)}
    rounds = range(given.each, given.simulations + 1, given.each)
    for simulations, task, sampler in product(rounds, TASKS, given.samplers):
        cell = {"task": task, "options": TASKS[task], "sampler": sampler}
        drawn = {"sigma": 0.1, "truth_steps": 32, "simulations": simulations}
        yield f"{given.prior}-{task}-{sampler}", Certify(**cell, **drawn, **same)


def draw(given: argparse.Namespace) -> None:
    """All rounds."""
    torch.set_num_threads(1)
    # A CPU that can multiplies in bfloat16, which moves the estimates of `digits` by 0.002 and is 1.4 times as fast.
    torch.backends.mkldnn.conv.fp32_precision = "bf16"  # type: ignore[attr-defined]
    for name, request in requests(given):
        try:
            results, before = run(prepare(request), Store(given.out / name))
        except PosteriaError as error:
            print(f"{name}: {error}", flush=True)
            continue
        if not before:
            print(f"{name} {request.simulations}: {getattr(results, 'verdict', '')}", flush=True)


def gathered(folder: Path) -> list[dict[str, Any]]:
    """The finished certificates of a folder, without their ranks."""
    found = []
    for path in sorted(folder.glob("*/run.json")):
        record = json.loads(path.read_text())
        if record["results"] is not None:
            certificate = record["results"]["certificate"]
            for tested in certificate["statistics"]:
                del tested["ranks"], tested["p_values"]
            found.append({"plan": record["plan"], **record["results"]})
    return found


def table(found: list[dict[str, Any]]) -> str:
    """The table, in Markdown."""
    rows = []
    for each in sorted(found, key=lambda one: (one["plan"]["prior"], one["plan"]["task"])):
        plan, c = each["plan"], each["certificate"]
        p = {s["name"]: min(s["adjusted"]) for s in c["statistics"]}
        rows.append([
            plan["prior"],
            WORDS[plan["task"]],
            plan["sampler"].partition("(")[0],
            str(c["simulations"]),
            f"{c['cost']['forward']:.0f} + {c['cost']['backward']:.0f}",
            each["verdict"].partition(":")[0],
            *(Curve(**c["curves"][part]).stated(0.9) for part in ("entries", "projections")),
            f"{c['residual']['samples']:.2f}",
            f"{min(value for name, value in p.items() if name.startswith('projection')):.2g}",
        ])
    header = ["prior", "measured", "sampler", "simulations", "evaluations + vjps", "verdict"]
    header += ["90 % intervals of pixels", "of projections", "residual", "p of 16 projections"]
    return Table("", header, rows).markdown()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["draw", "table"])
    parser.add_argument("--out", type=Path, default=Path("certificates"))
    parser.add_argument("--prior", default="digits", help="Or digits-mixture.")
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS)
    parser.add_argument("--settings", nargs="*", default=[], help="Of them, such as particles=32.")
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--each", type=int, default=10, help="Simulations of a round.")
    parser.add_argument("--samples", type=int, default=9, help="Of each simulation.")
    parser.add_argument("--budget", type=int, default=100, help="Evaluations and vjps a sample.")
    parser.add_argument("--chunk", type=int, default=45, help="Samples drawn at once.")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if given.what == "draw":
        draw(given)
        return
    known = {}
    for each in (*json.loads(KEPT.read_text()), *gathered(given.out)):
        plan = each["plan"]
        known[plan["prior"], plan["task"], plan["sampler"].partition("(")[0]] = each
    KEPT.write_text(json.dumps(list(known.values())) + "\n")
    write_parts("certify.md", {"certificates": table(json.loads(KEPT.read_text()))})


if __name__ == "__main__":
    main()
