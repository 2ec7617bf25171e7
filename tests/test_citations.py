"""What to cite."""

import re
from pathlib import Path

import pytest

import posteria as po
from posteria.citations import cite, references

SOURCE = Path(po.__file__).parent
REGISTERED = {**po.samplers.SAMPLERS, **po.guidance.RULES, **po.solvers.SOLVERS}


def keys(text: str) -> list[str]:
    return re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE)


def test_entries_are_well_formed() -> None:
    # Catches: an entry that BibTeX refuses, a key or a number that stands twice, a title without year.
    text = (SOURCE / "references.bib").read_text()
    entries = text.split("\n\n")
    assert len(set(keys(text))) == len(references()) == len(entries) == text.count("@")
    for entry in entries:
        assert entry.isascii() and entry.count("{") == entry.count("}"), entry
        fields = dict(re.findall(r"^  (\w+) = \{(.+)\},?$", entry, re.MULTILINE))
        assert {"author", "title", "year"} <= fields.keys(), entry
        assert fields.keys() & {"eprint", "url"}, entry
        for author in fields["author"].split(" and "):
            assert re.fullmatch(r"[^,]+, [^,]+", author), entry
        if "eprint" in fields:
            assert abs(int(fields["year"]) - 2000 - int(fields["eprint"][:2])) <= 0, entry


def test_every_number_of_a_method_has_its_entry() -> None:
    # Catches: a new paper in a docstring, which `cite` would leave out in silence.
    for room in ("samplers", "guidance", "diffusion"):
        for path in (SOURCE / room).rglob("*.py"):
            text = path.read_text()
            for number in re.findall(r"arXiv:(\d{4}\.\d{4,5})", text):
                own = f"eprint = {{{number}}}" in text
                assert own or number in references(), f"{path.name} names arXiv:{number}"


@pytest.mark.parametrize("name", REGISTERED)
def test_everything_registered_cites_a_paper(name: str) -> None:
    # Catches: a method without a source.
    assert keys(cite(REGISTERED[name]())), name


def test_what_is_cited() -> None:
    # Catches: the paper of a neighbour, a part that is left out, an order that changes.
    assert keys(cite(po.MGPS)) == keys(cite(po.MGPS())) == ["moufad2024variational"]
    guided = po.Guided(rule=po.APG(), solver=po.Heun())
    assert keys(cite(guided)) == ["sadat2024eliminating", "karras2022elucidating"]
    assert keys(cite(po.DDIM, po.DPS, po.DDIM)) == ["song2020denoising", "chung2022diffusion"]
    assert keys(cite(po.samplers.LGD)) == ["song2023loss"]
    assert keys(cite(po.samplers.FPS)) == ["dou2024diffusion"]
    ours = type("Ours", (po.DDIM,), {"bibtex": "@misc{ours2026method, title = {Ours}}"})
    assert keys(cite(ours())) == ["ours2026method"]
    assert keys(cite()) == ["posteria"]
    with pytest.raises(po.InputError, match=r"no paper to cite for Inpainting"):
        cite(po.operators.Inpainting)
