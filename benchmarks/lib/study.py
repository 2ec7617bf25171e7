"""What the studies share: a prior in half precision, and pages of the documentation that are made of their rows."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

import posteria as po
from posteria.core.errors import expect

RESULTS = Path(__file__).parent.parent / "results"
DOCS = RESULTS.parent.parent / "docs"


def marked(text: str, parts: Mapping[str, str]) -> str:
    """A document with its generated parts anew: what stands between `<!-- NAME -->` and `<!-- /NAME -->`."""
    for name, part in parts.items():
        found = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = found.sub(lambda match, part=part: f"{match[1]}\n{part}\n\n{match[2]}", text)  # type: ignore[misc]
    return text


def write_parts(name: str, parts: Mapping[str, str]) -> bool:
    """Put generated parts into a page of the documentation; says whether that changed it."""
    path = DOCS / name
    old = path.read_text()
    new = marked(old, parts)
    if new != old:
        path.write_text(new)
    return new != old


@cache
def prior(name: str, size: int | tuple[int, ...]) -> po.Network:
    """A shipped prior of signals of a size; in half precision where that is fast."""
    dtype = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    return expect(po.load_prior(name, size=size, dtype=dtype), po.Network, by="A study")
