"""What the exports of local networks share: a command line, weights in half precision with hash, card and page."""

import argparse
import json
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from posteria.priors.card import file_sha256
from posteria.priors.local import LocalUNet
from train import Recipe


def command(about: str | None) -> argparse.Namespace:
    """The command line of an export: `data`, `run`, `out` and `how`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data")
    parser.add_argument("--run", type=Path, required=True, help="folder that the training wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--how", required=True, help="on what it was trained, for its card")
    return parser.parse_args()


def write_network(run: Path, out: Path, card: str, **config: Any) -> str:
    """Write `network.safetensors`, `network.json` and `card.toml`; returns the SHA-256 of the weights.

    Args:
        run: The folder that a training wrote.
        out: The folder to ship.
        card: `card.toml`, with `{sha256}` in it.
        config: `network.json`: the kind of network and its arguments, and what `read_local` reads beside them.
    """
    out.mkdir(parents=True, exist_ok=True)
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["ema"]
    weights = out / "network.safetensors"
    half = {key: value.half().contiguous() for key, value in state.items()}
    save_file(half, weights, metadata={"format": "pt"})
    (out / "network.json").write_text(json.dumps(config) + "\n")
    sha256 = file_sha256(weights)
    (out / "card.toml").write_text(card.format(sha256=sha256))
    return sha256


def read_log(run: Path) -> list[dict[str, Any]]:
    """What was measured as training went on."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def curve(
    log: Sequence[dict[str, Any]], what: str, columns: Sequence[str], *keys: str, digits: int = 1
) -> str:
    """A table in Markdown of at most eight rows of a log.

    Args:
        log: As `read_log` gives it.
        what: Of what so many were seen.
        columns: What the numbers are.
        keys: Of the numbers in a row, one within the other.
        digits: Of a number.
    """
    shown = [*log[: -1 : max(1, len(log) // 6)], log[-1]]
    rows = [
        f"| {row['seen']} | {' | '.join(f'{v:.{digits}f}' for v in reduce(dict.__getitem__, keys, row))} |"
        for row in shown
    ]
    return "\n".join([
        f"| {what} | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
        *rows,
    ])


def write_page(
    options: argparse.Namespace,
    page: str,
    recipe: Recipe,
    net: LocalUNet,
    sha256: str,
    **more: Any,
) -> None:
    """Write `README.md`, of `size` (in millions), `reach`, `batch`, `seen`, `minutes`, `how`, `sha256` and more.

    Args:
        options: Of the command line.
        page: With names in braces.
        recipe: What it was trained by.
        net: The network.
        sha256: Of its weights.
        more: What else stands on the page.
    """
    last = read_log(options.run)[-1]
    known = {
        "size": sum(part.numel() for part in net.parameters()) / 1e6,
        "reach": net.reach,
        "batch": recipe.batch,
        "seen": last["seen"],
        "minutes": round(last["seconds"] / 60),
        "how": options.how,
        "sha256": sha256,
    }
    (options.out / "README.md").write_text(page.format(**known | more))
