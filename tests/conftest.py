import pytest
import torch

pytest.register_assert_rewrite("common", "helpers", "affine")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors are fastest on one thread, and sums then do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
