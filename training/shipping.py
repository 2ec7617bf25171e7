"""What the exports share: a command line, weights in half precision, and the numbers of a card and its page.

The words of `card.toml` and `README.md` are written by hand in the folder that ships. An export puts the hash of the
weights into the one, and into the other what stands between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from posteria.priors.card import file_sha256
from posteria.priors.local import LocalUNet


def command(about: str | None) -> argparse.ArgumentParser:
    """The command line of an export: `data`, `run`, `out` and `how`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data")
    parser.add_argument("--run", type=Path, required=True, help="folder that the training wrote")
    parser.add_argument("--out", type=Path, required=True, help="with card.toml and README.md")
    parser.add_argument("--how", required=True, help="on what it was trained, for its page")
    return parser


def averaged(run: Path) -> dict[str, Any]:
    """The average of the weights of a run."""
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    return dict(state["ema"])


def write_network(run: Path, out: Path, **config: Any) -> str:
    """Write `network.safetensors`, `network.json` and the hash into `card.toml`; returns the SHA-256 of the weights.

    Args:
        run: The folder that a training wrote.
        out: The folder to ship.
        config: `network.json`: the kind of network and its arguments, and what `read_local` reads beside them.
    """
    half = {key: value.half().contiguous() for key, value in averaged(run).items()}
    save_file(half, out / "network.safetensors", metadata={"format": "pt"})
    (out / "network.json").write_text(json.dumps(config) + "\n")
    return write_hash(out / "network.safetensors", out)


def write_hash(weights: Path, out: Path) -> str:
    """Put the SHA-256 of a file of weights into `card.toml`, and return it."""
    card, sha256 = out / "card.toml", file_sha256(weights)
    card.write_text(re.sub(r'sha256 = "[0-9a-f]*"', f'sha256 = "{sha256}"', card.read_text()))
    return sha256


def marked(text: str, parts: Mapping[str, str]) -> str:
    """A page with its generated parts anew; a part for which it has no marks is left out."""
    for name, part in parts.items():
        found = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = found.sub(lambda match, part=part: f"{match[1]}\n{part}\n\n{match[2]}", text)  # type: ignore[misc]
    return text


def fill(path: Path, parts: Mapping[str, str]) -> None:
    """Put generated parts into a page; `ValueError` if it has no marks for one."""
    text = path.read_text()
    if missing := [name for name in parts if f"<!-- {name} -->\n" not in text]:
        raise ValueError(f"{path} has no <!-- {missing[0]} --> for what was made.")
    path.write_text(marked(text, parts))


def in_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = (header, ["---"] * len(header), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_page(out: Path, made: Mapping[str, str], sha256: str, **parts: str) -> None:
    """Put parts into `README.md`: the table `made`, which ends with the hash of the weights, and others."""
    rows = [*made.items(), ("weights", f"half precision, sha256 {sha256}")]
    fill(out / "README.md", {"made": in_table(["", ""], rows), **parts})


def read_log(run: Path) -> list[dict[str, Any]]:
    """What was measured as training went on."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def trained(options: argparse.Namespace, net: LocalUNet, what: str) -> dict[str, str]:
    """What a page says of a local network that saw so many of something."""
    last, size = read_log(options.run)[-1], sum(part.numel() for part in net.parameters())
    return {
        "network": f"{size / 1e6:.1f} million numbers, which see {net.reach} values far to either side",
        "training": f"{last['seen']} {what}, {last['seconds'] / 60:.0f} minutes on {options.how}",
    }


def curve(
    log: Sequence[dict[str, Any]], what: str, columns: Sequence[str], *keys: str, digits: int = 1
) -> str:
    """A table in Markdown of at most nine rows of a log.

    Args:
        log: As `read_log` gives it.
        what: Of what so many were seen.
        columns: What the numbers are.
        keys: Of the numbers in a row, one within the other.
        digits: Of a number.
    """
    shown = [*log[: -1 : max(1, -(-(len(log) - 1) // 8))], log[-1]]
    found: list[tuple[int, Any]] = [(r["seen"], reduce(dict.__getitem__, keys, r)) for r in shown]
    rows = [[str(seen), *(f"{v:.{digits}f}" for v in values)] for seen, values in found]
    return in_table([what, *columns], rows)
