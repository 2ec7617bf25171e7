import os

import pytest
import torch

# Nothing is kept from one test to another, or in the user's folder.
os.environ["POSTERIA_CACHE"] = os.devnull

pytest.register_assert_rewrite("common", "helpers", "affine")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors are fastest on one thread, and sums then do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
