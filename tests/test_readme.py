"""What the README says runs."""

import re
from pathlib import Path
from typing import Any

import pytest

import posteria as po

ROOT = Path(__file__).parent.parent


def test_its_python_runs() -> None:
    # With fewer steps, and nothing else changed.
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    code = blocks[0].replace("po.MGDM()", "po.MGDM(schedule=po.Table(steps=4))")
    code = code.replace("po.Unconditional()", "po.Unconditional(schedule=po.Karras(steps=4))")
    code = code.replace("po.CFGiG()", "po.CFGiG(schedule=po.Karras(steps=8))")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["samples"].shape == names["threes"].shape == (8, 1, 28, 28)


@pytest.mark.parametrize(
    "page",
    [
        *("README.md", "CONTRIBUTING.md", "docs/architecture.md"),
        *("docs/samplers.md", "docs/guidance.md"),
    ],
)
def test_what_it_points_to_exists(page: str) -> None:
    folder = (ROOT / page).parent
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text())
    for link in links:
        if not link.startswith("http"):
            assert (folder / link).exists(), f"{page} points to {link}, which does not exist"
    targets = set(re.findall(r"make ([a-z-]+)", (ROOT / page).read_text()))
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"there is no `make {target}`"


def test_every_sampler_and_rule_has_its_paragraph() -> None:
    pages = {
        "samplers.md": po.samplers.POSTERIOR_SAMPLERS,
        "guidance.md": {**po.RULES, **po.samplers.TILTED_SAMPLERS},
    }
    for page, kinds in pages.items():
        text = (ROOT / "docs" / page).read_text()
        for name, kind in kinds.items():
            assert f"**{name}** (`{kind.__name__}`" in text, name


def test_the_project_speaks_of_itself_alone() -> None:
    # Catches: paths of one machine in text that others read.
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *(ROOT / "src").rglob("*.py")]:
        assert not re.search(r"/(root|home|tmp)/", path.read_text()), path
