"""The names of the package: what is there, where it is, and what it costs to import."""

import ast
import importlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import posteria as po
from posteria._deprecated import MOVED
from posteria._names import NAMES, ROOMS

SOURCE = Path(po.__file__).parent


def at(path: str) -> Any:
    """What is at a path below `posteria`."""
    home, _, name = f"posteria.{path}".rpartition(".")
    return getattr(importlib.import_module(home), name)


def test_import_alone_does_not_load_pytorch() -> None:
    # Catches: an import at the top of `__init__`, after which `--help` takes as long as PyTorch does.
    code = "import sys, posteria; print('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"


def test_a_room_is_an_attribute() -> None:
    # Catches: `po.testing` as an AttributeError until somebody else has imported it.
    code = "import posteria as po; print(*(getattr(po, r).__name__ for r in reversed(po._names.ROOMS)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == [f"posteria.{room}" for room in reversed(ROOMS)]


@pytest.mark.parametrize("name", NAMES)
def test_a_flat_name_is_one_object(name: str) -> None:
    # Catches: a name whose module has lost it; a flat name that is another object than the room's, so
    # that `isinstance` fails; a class that cannot be pickled by the name it has.
    value = getattr(po, name)
    assert value is at(f"{NAMES[name]}.{name}")
    assert pickle.loads(pickle.dumps(value)) is value
    assert name in dir(po)


def test_type_checkers_know_the_same_names() -> None:
    # Catches: a name that works and that mypy and an editor refuse, or the reverse.
    def known(package: str) -> dict[str, str]:
        tree = ast.parse((SOURCE / package / "__init__.py").read_text())
        block = next(node for node in tree.body if isinstance(node, ast.If))
        return {
            alias.asname or alias.name: f"{'.' * node.level}{node.module or ''}"
            for node in block.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    flat = {name: f".{module}" for name, module in NAMES.items()}
    assert known("") == {**dict.fromkeys(ROOMS, "."), **flat}
    for name, module in known("priors").items():
        home = importlib.import_module(module, "posteria.priors")
        assert getattr(po.priors, name) is getattr(home, name)


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_works_and_names_the_new_place(old: str) -> None:
    # Catches: a renaming that breaks scripts at once, a warning that points to nothing, and one that
    # names a line of posteria instead of the caller's.
    with pytest.warns(DeprecationWarning, match=rf"posteria\.{MOVED[old]};") as caught:
        value = at(old)
    assert value is at(MOVED[old])
    assert {Path(warning.filename).name for warning in caught} == {Path(__file__).name}


def test_an_unknown_name_is_an_attribute_error() -> None:
    # Catches: an `__getattr__` that ends in KeyError or ImportError, which `hasattr` lets through.
    assert not hasattr(po, "Tabel")
    with pytest.raises(ImportError, match="Tabel"):
        exec("from posteria import Tabel")


def test_reprs_fit_in_a_line() -> None:
    # Catches: an address, or hundreds of numbers, where a person looks for what an object is.
    prior = po.Gaussian(torch.zeros(300), torch.eye(300))
    operator = po.operators.Inpainting(torch.arange(300) < 200)
    likelihood = po.GaussianLikelihood(operator, std=torch.full((200,), 0.1))
    assert repr(likelihood) == f"GaussianLikelihood({operator!r}, std=tensor of shape (200,))"
    target = po.Posterior(prior, likelihood, torch.zeros(200))
    assert repr(target) == f"Posterior({prior!r}, {likelihood!r}, y=tensor of shape (200,))"
    assert repr(prior) == "Gaussian(event (300,))"
    assert repr(po.FunctionLikelihood(len)) == "FunctionLikelihood(len, shape=None)"
    assert repr(po.Family(prior, {0: prior})) == "Family(event (300,))"
    tilted = po.Tilted(po.Family(prior, {0: prior}), po.Label(0), 2.0)
    parts = "prior=Family(event (300,)), condition=Label(label=0), weight=2.0"
    assert repr(tilted) == f"Tilted({parts})"
