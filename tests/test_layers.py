"""The rooms and who may know whom."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "posteria"
ROOMS = [
    ["version", "_deprecated", "_names", "core"],
    ["diffusion", "operators"],
    ["likelihood", "schedules", "solvers", "citations"],
    ["analytic", "latent"],
    ["target"],
    ["linear_gaussian"],
    ["guidance"],
    ["samplers"],
    ["metrics", "priors", "testing"],
    ["problems"],
    ["modalities", "certification"],
    ["runs", "interop"],
    ["cli"],
    ["__init__", "__main__"],
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
FILES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports when it is imported."""
    package = path.relative_to(SOURCE).parts[:-1]
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - (node.level - 1)], *(node.module or "").split(".")]
            parts = [part for part in base if part]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    # Catches: a core room that starts to know a sampler, after which nothing can be tested or
    # replaced by itself.
    own = room(path)
    for other in imported_rooms(path) - {own}:
        assert LEVEL[other] < LEVEL[own], f"{own} imports {other}"


def module_of(path: Path) -> str:
    """The dotted name of a file below the package."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def run(node: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    """The parts of a file that run, those of its functions included; not what is for the type checker alone.

    In a package (`lazy`), that is what runs later.
    """
    for child in ast.iter_child_nodes(node):
        typing = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if lazy or not typing:
            yield child
            yield from run(child, lazy)


def imported_modules(path: Path) -> set[str]:
    """The files of the package that a file imports, whenever it does."""
    package = path.relative_to(SOURCE).parts[:-1]
    found = set()
    for node in run(ast.parse(path.read_text()), path.name == "__init__.py"):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - (node.level - 1)]
            base = ".".join([*above, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}".removeprefix(".") for alias in node.names]
            found |= {name if name in MODULES else base for name in names}
    return found & set(MODULES) - {module_of(path)}


def test_no_file_imports_itself_through_others() -> None:
    # Catches: two files that need one another, of which neither can be read, tested or replaced by itself;
    # an import inside a function that hides such a circle.
    left = {name: imported_modules(path) for name, path in MODULES.items()}
    while free := [name for name, needs in left.items() if not needs]:
        left = {name: needs - {*free} for name, needs in left.items() if name not in free}
    # What remains is in a circle, or above one.
    assert not left


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_a_file_of_tests_is_read_in_one_sitting_too_and_has_a_name_of_its_own() -> None:
    # Catches: a file of tests that a worker of pytest-xdist runs alone at the end; two of one name, of which
    # pytest imports one.
    assert not [path.name for path in TESTS if len(path.read_text().splitlines()) > 400]
    assert len({path.name for path in TESTS}) == len(TESTS)


PYTHON = [
    path
    for part in ("src", "benchmarks", "training", "tests")
    for path in (ROOT / part).rglob("*.py")
]
FOLDERS = sorted({path.parent for path in PYTHON})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_folder_is_seen_at_a_glance(folder: Path) -> None:
    files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= 12, files


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_derivatives_and_randomness_have_one_home(path: Path) -> None:
    # Catches: a global random draw (a sample that depends on its batch), a hand-written gradient,
    # an assert for users.
    text = path.read_text()
    name = str(path.relative_to(SOURCE))
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.Assert), f"{name}:{node.lineno} uses assert"
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            seeded = any(keyword.arg == "generator" for keyword in node.keywords)
            if call in {
                "torch.randn",
                "torch.rand",
                "torch.randperm",
                "torch.multinomial",
                "torch.poisson",
            }:
                assert seeded, f"{name}:{node.lineno} draws from the global generator"
            assert call not in {"torch.randn_like", "torch.rand_like"}, f"{name}:{node.lineno}"
            if call in {"torch.autograd.grad", "torch.enable_grad"}:
                assert name == "core/linalg.py", f"{name}:{node.lineno} differentiates by hand"


WATCHED = """
import os, sys
class Watch:
    def find_spec(self, name, *rest):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"))
            sys.exit()
sys.meta_path.insert(0, Watch())
{}
"""


def test_pytorch_is_told_how_to_wait_before_it_is_loaded() -> None:
    # Catches: an import that comes first. It is read once, and on a busy machine a run then takes
    # 60 times as long.
    call = "sys.argv = ['posteria', 'list', 'samplers']; import posteria.cli; posteria.cli.main()"
    words = [sys.executable, "-c", WATCHED.format(call)]
    clean = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    for given, expected in (({}, "2000"), ({"GOMP_SPINCOUNT": "5"}, "5")):
        done = subprocess.run(words, capture_output=True, env=clean | given, check=True, text=True)
        assert done.stdout.strip() == expected


def test_an_import_changes_nothing_of_the_process() -> None:
    # Catches: environment variables, threads, warnings or the grad mode set for everyone who imports the package.
    code = """
import os, warnings, torch
def state():
    modes = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads(), torch.initial_seed()
    return dict(os.environ), list(warnings.filters), modes
import diffusers, numpy, PIL.Image, typer
before = state()
import posteria, posteria.samplers, posteria.priors, posteria.cli
import posteria.runs.jobs.restore, posteria.runs.jobs.generate
assert state() == before
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
