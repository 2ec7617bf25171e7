"""The papers behind samplers, rules, solvers, schedules, priors and operators, as BibTeX."""

import re
from collections.abc import Iterator
from functools import cache, cached_property
from importlib.resources import files

from .core.errors import InputError

OWN = """@software{posteria,
  author = {{The posteria contributors}},
  title = {posteria: posterior sampling with pre-trained diffusion models},
  year = {2026}
}
"""
# How docstrings name a paper, and the parts of an object whose papers are cited with its own.
_NAMED = re.compile(r"arXiv:(\d{4}\.\d{4,5})|OpenReview (\w+)|PMLR (\w+)")
_PARTS = ("rule_type", "rule", "solver", "prior", "likelihood", "operator")


@cache
def references() -> dict[str, str]:
    """The BibTeX entries of `references.bib`, by arXiv, OpenReview or PMLR number."""
    text = files("posteria").joinpath("references.bib").read_text(encoding="utf-8")
    number = re.compile(r"eprint = \{(.+?)\}|url = .*?([\w-]+?)(?:\.html)?\}\n")
    entries = [entry.strip() + "\n" for entry in text.split("\n\n")]
    return {next(filter(None, found.groups())): e for e in entries if (found := number.search(e))}


def entries(thing: object) -> Iterator[str]:
    """The BibTeX entries of a class, or of the class of an object and of its parts.

    A class has those of the papers that its docstring names, or its own in the attribute `bibtex`.
    """
    kind = thing if isinstance(thing, type) or callable(thing) else type(thing)
    if own := getattr(kind, "bibtex", None):
        yield own.strip() + "\n"
    known = references()
    for found in _NAMED.finditer(getattr(kind, "__doc__", None) or ""):
        number = next(filter(None, found.groups()))
        if number in known:
            yield known[number]
    for part in (getattr(thing, name, None) for name in _PARTS):
        if part is not None and not isinstance(part, property | cached_property):
            yield from entries(part)


def cite(*things: object) -> str:
    """BibTeX of what to cite for the use of `things`; of posteria itself where none is given.

    Args:
        things: Samplers, rules, solvers, schedules, priors, operators or targets, or their classes.

    Returns:
        One entry for each paper, in the order of the arguments.

    Raises:
        InputError: If none of them names a paper.
    """
    if not things:
        return OWN
    found = dict.fromkeys(entry for thing in things for entry in entries(thing))
    if not found:
        names = ", ".join(getattr(thing, "__name__", type(thing).__name__) for thing in things)
        raise InputError(
            f"There is no paper to cite for {names}; `cite()` is posteria's own entry."
        )
    return "\n".join(found)
