"""The mixture of digits that ships: the law of its file, and what it refuses."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import posteria as po
from posteria.analytic import PPCAMixture
from posteria.modalities import MODALITIES
from posteria.priors import SHIPPED
from posteria.testing import check_denoiser

CARD = SHIPPED["digits-mixture"]


def load(dtype: torch.dtype = torch.float32) -> PPCAMixture:
    prior = po.load_prior("digits-mixture", dtype=dtype)
    assert isinstance(prior, PPCAMixture)
    return prior


def test_the_law_is_that_of_the_file() -> None:
    # Catches: axes that half precision has bent, tensors in another order, a variance taken for a deviation.
    prior, found = load(torch.float64), load_file(CARD.folder / "mixture.safetensors")
    assert prior.space.shape == CARD.shape and repr(prior).startswith(
        "PPCAMixture(digits-mixture:"
    )
    assert (CARD.folder / "mixture.safetensors").stat().st_size < 5_000_000
    gram = prior.factors.mT @ prior.factors
    assert (gram - torch.eye(24).double()).abs().max() < 1e-12
    assert (prior.factors - found["factors"].double()).abs().max() < 1e-3
    x = prior.sample(20_000, torch.Generator().manual_seed(0)).flatten(1)
    k = int(prior.weights.argmax())
    own = prior.sample_of(torch.full((20_000,), k), torch.Generator().manual_seed(1)).flatten(1)
    apart = (own - own.mean(0)) @ prior.factors[k]
    expected = found["variances"][k] + found["noise"][k]
    assert torch.allclose(apart.var(0).float(), expected, rtol=0.06)
    assert prior.scale is not None
    assert abs(float(x.var(0).mean()) ** 0.5 / prior.scale.std - 1) < 0.02


def test_battery() -> None:
    check_denoiser(load(), sigmas=(0.1, 1.0))
    check_denoiser(load(torch.float64), sigmas=(0.002, 20.0))


def test_held_out_digits_are_of_their_class() -> None:
    # Catches: components that were given to another class; a law that does not know digits.
    prior = load()
    truth = torch.stack([
        MODALITIES["image"].read(p, CARD.shape, taker="digits", fit=False).x for p in CARD.examples
    ])
    log_prob = torch.stack([prior.given(po.Label(k)).log_prob(truth) for k in range(10)])
    assert log_prob.argmax(0).tolist() == [int(path.stem[-1]) for path in CARD.examples]
    assert "sha256 " + str(CARD.sha256) in (CARD.folder / "README.md").read_text()


def test_what_is_no_mixture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(po.InputError, match="is not a mixture that posteria reads"):
        po.load_prior(f"mixture:{tmp_path}")
    save_file({"weights": torch.ones(2)}, tmp_path / "mixture.safetensors")
    with pytest.raises(po.InputError, match="is not a mixture that posteria reads: 'means'"):
        po.load_prior(f"mixture:{tmp_path}")
    with pytest.raises(po.InputError, match="leave out size"):
        po.load_prior("digits-mixture", size=(32, 32))
