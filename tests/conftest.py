import gc
import os
from collections.abc import Generator

import pytest
import torch

from posteria.core.rng import Generators

# Nothing is kept from one test to another, or in the user's folder.
os.environ["POSTERIA_CACHE"] = os.devnull

pytest.register_assert_rewrite("common", "helpers", "affine")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays: to look for garbage in it takes a quarter of that time.

    Later it takes a twelfth of the time of the tests, unless it is frozen.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors are fastest on one thread, and sums then do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture
def one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normal draws of all samples from the stream of the first, for laws of thousands of samples drawn together.

    The law is the same, and one call for each sample is most of the time of such a test.
    """

    def fill(streams: Generators, out: torch.Tensor) -> torch.Tensor:
        return out.normal_(generator=streams._generators[0])

    monkeypatch.setattr(Generators, "normal_", fill)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
