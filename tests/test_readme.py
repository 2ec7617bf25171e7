"""What the README says runs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import posteria as po
from posteria.cli.app import app

ROOT = Path(__file__).parent.parent
HOMES = (
    "",
    "docs",
    "docs/contributing",
    "training",
    "benchmarks/results",
    "src/posteria/priors/weights/*",
)
PAGES = [
    str(path.relative_to(ROOT))
    for home in HOMES
    for path in sorted(ROOT.glob(f"{home}/*.md".lstrip("/")))
]


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names of the headings of a Markdown page in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(text: str) -> Iterator[str]:
    """The lines of a Markdown page that are not code, tables or headings, without list markers."""
    for line in without_blocks(text).splitlines():
        if not line.startswith(("|", "#", "    ", "![", "<!--")):
            yield re.sub(r"^ *([-*]|\d+\.) ", "", line)


def blocks(page: str, kind: str = "python") -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


# With fewer steps than MMPS needs, and nothing else changed.
@pytest.mark.filterwarnings("ignore:MMPS (diverged|starts from|ends at):RuntimeWarning")
def test_its_python_runs() -> None:
    (code,) = blocks("README.md")
    code = code.replace("po.MMPS()", "po.MMPS(schedule=po.Karras(steps=4))")
    code = code.replace("po.Unconditional()", "po.Unconditional(schedule=po.Karras(steps=4))")
    assert code.count("steps=4") == 2
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["samples"].shape == (8, 1, 28, 28)
    assert names["estimate"].shape == names["uncertainty"].shape == (1, 28, 28)


def test_the_page_about_your_own_things_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a page that nobody has followed; a resumed run that differs; samples of another law.
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in blocks("docs/own.md"):
        exec(code, names)
    assert torch.equal(names["resumed"], names["samples"])
    assert names["residual"] == pytest.approx(1, abs=0.1)
    # 7680 entries; one standard error is 0.0034.
    assert names["coverage"] == pytest.approx(0.9, abs=0.015)
    assert names["p_value"] > 1e-3
    each, whole = (
        names["restored"],
        names["sampler"].sample(
            po.Posterior(names["prior"], names["likelihood"], names["measured"]), seeds=range(10)
        ),
    )
    assert torch.allclose(each, whole, atol=1e-5)


def test_the_page_of_certificates_runs() -> None:
    names: dict[str, Any] = {}
    for code in blocks("docs/certify.md"):
        exec(code, names)
    assert names["certificate"].tests == 3 * 29 + 1


def test_the_page_of_notation_runs() -> None:
    # Catches: a conversion with a slip; a loop by hand that is no longer what `sample` does.
    names: dict[str, Any] = {}
    for code in blocks("docs/notation.md"):
        exec(code, names)


@pytest.mark.parametrize("page", ["choose", "guidance", "music", "ecg"])
def test_the_python_of_other_pages_runs(page: str) -> None:
    # Catches: a name that has moved, on a page that nobody has followed since.
    prior = po.Gaussian(torch.zeros(2), torch.eye(2))
    family = po.Family(prior, {3: po.Gaussian(torch.ones(2), 0.5 * torch.eye(2))})
    likelihood = po.GaussianLikelihood(po.operators.Identity((2,)), std=0.5)
    y = torch.zeros(2)
    names: dict[str, Any] = {"po": po, "likelihood": likelihood, "y": y, "family": family}
    names["target"] = po.Posterior(prior, likelihood, y)
    for code in blocks(f"docs/{page}.md"):
        # A network of another package; and another family, which is drawn from at once.
        if "model.unet" not in code:
            exec(code.replace('po.load_prior("digits")', "family"), names)


def test_the_page_about_your_own_things_goes_to_arviz() -> None:
    pytest.importorskip("arviz")
    names: dict[str, Any] = {"samples": torch.randn(8, 3, 4, 4)}
    (code,) = blocks("docs/own.md", "python arviz")
    exec(code, names)
    assert names["interval"].shape == (2, 3, 4, 4)
    assert dict(names["dataset"].sizes) | {"chain": 1, "draw": 8} == dict(names["dataset"].sizes)


@pytest.mark.parametrize(
    "page", ["command", "metric", "modality", "operator", "prior", "rule", "sampler"]
)
def test_the_pages_for_contributors_run(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: an example after a contract that has changed since; a page that does not say how many files it takes.
    text = (ROOT / f"docs/contributing/{page}.md").read_text()
    files = len(re.findall(r"^##+ \d\. ", text, re.MULTILINE))
    assert f"{('Two', 'Three', 'Four')[files - 2]} files: " in text
    # Catches: a test where a folder is full.
    for folder in re.findall(r"^##+ \d.*`(tests/[\w/]+)/test_\w+\.py`", text, re.MULTILINE):
        assert len([*(ROOT / folder).glob("test_*.py")]) < 12, folder
    monkeypatch.setattr(app, "registered_commands", [*app.registered_commands])
    names: dict[str, Any] = {}
    for code in blocks(f"docs/contributing/{page}.md"):
        exec(code, names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


def test_pages_that_code_and_pages_name_exist() -> None:
    # Catches: a page that was renamed, and still stands in a message, a docstring or the changelog.
    rooms = ("src", "benchmarks", "training")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    for path in [*files, ROOT / "Makefile", *(ROOT / page for page in PAGES)]:
        for name in re.findall(r"\bdocs/[\w/]+\.(?:md|png|svg)", path.read_text()):
            assert (ROOT / name).exists(), f"{path} names {name}, which does not exist"


@pytest.mark.parametrize("page", PAGES)
def test_what_it_points_to_exists(page: str) -> None:
    here = ROOT / page
    for link in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", without_blocks(here.read_text())):
        name, _, anchor = "".join(link).partition("#")
        if name.startswith("http"):
            continue
        there = here.parent / name if name else here
        assert there.exists(), f"{page} points to {name}, which does not exist"
        assert not anchor or anchor in anchors(there), f"{name} has no heading {anchor}"
    targets = set(re.findall(r"(?:`|^ *)make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"there is no `make {target}`"


@pytest.mark.parametrize("page", PAGES)
def test_one_sentence_a_line(page: str) -> None:
    # Catches: a paragraph that is wrapped by hand, in which a change of one word moves ten lines.
    for line in prose((ROOT / page).read_text()):
        assert len(line) <= 120, line
        spoken = re.sub(r"`[^`]*`|\b(al|e\.g|i\.e|[A-Z])\. ", "", line)
        assert not re.search(r"\w[.!?][)*]* +[A-Z]", spoken), line


def test_every_sampler_and_rule_has_its_paragraph() -> None:
    pages = {
        "samplers.md": po.samplers.POSTERIOR_SAMPLERS,
        "guidance.md": {**po.guidance.RULES, **po.samplers.TILTED_SAMPLERS},
    }
    for page, kinds in pages.items():
        text = (ROOT / "docs" / page).read_text()
        for name, kind in kinds.items():
            assert f"**{name}** (`{kind.__name__}`" in text, name


def test_the_project_speaks_of_itself_alone() -> None:
    # Catches: paths of one machine in text that others read.
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *(ROOT / "src").rglob("*.py")]:
        assert not re.search(r"/(root|home|tmp)/", path.read_text()), path
