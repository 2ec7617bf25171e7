"""Models of latents: what is loaded against E[x_0 | x] made by hand, and posteriors of what is decoded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from common.models.pipelines import parts_of, save
from helpers import F64, gaussian, normal
from posteria.latent import decoder_of, measured
from posteria.priors import Decoder, Embeddings, Latent, from_diffusers
from posteria.testing import check_operator

TOKENS, POOLED = normal(7, 8, seed=1).float(), normal(8, seed=3).float()


def check_decoder(prior: Latent, autoencoder: Any, z: Tensor) -> None:
    config = autoencoder.config
    scale, mean, std = config.scaling_factor, 0.0, 1.0
    if config.get("latents_mean"):
        mean, std = (
            torch.tensor(config[key])[:, None, None] for key in ("latents_mean", "latents_std")
        )
    mean = mean + (config.get("shift_factor") or 0.0)
    with torch.no_grad():
        pixels = autoencoder.decode(z * std / scale + mean).sample
    torch.testing.assert_close(prior.decode(z), pixels)
    assert prior.decoder.codomain.shape == (3, 16, 16)
    with torch.no_grad():
        found = autoencoder.encode(pixels)
        inner = found.latents if hasattr(found, "latents") else found.latent_dist.mean
    torch.testing.assert_close(prior.encode(pixels), (inner - mean) * scale / std)
    _, pullback = prior.decoder.vjp(z)
    v, leaf = normal(*pixels.shape, seed=4).float(), z.clone().requires_grad_()
    (autoencoder.decode(leaf * std / scale + mean).sample * v).sum().backward()
    torch.testing.assert_close(pullback(v), leaf.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*starts from noise:RuntimeWarning")
def test_three_lines(tmp_path: Path) -> None:
    # Catches: a composition in another order, a decoder that counts the encoder's scale twice.
    folder = save(tmp_path, parts_of("ldm"))
    prior = po.load_prior(str(folder))
    assert isinstance(prior, Latent)
    mask = po.operators.box_mask(16, 16)
    likelihood = po.GaussianLikelihood(po.operators.Inpainting(mask, (3, 16, 16)), 0.05)
    y = likelihood.sample(prior.decode(normal(1, 3, 8, 8).float()), po.Rng([0], stream=1))[0]
    sampler = po.MGDM(schedule=po.Karras(steps=3, sigma_max=80.0))
    z = sampler.sample(po.Posterior(prior, likelihood, y), seeds=2)
    assert z.shape == (2, 3, 8, 8)
    assert prior.decode(z).shape == (2, 3, 16, 16)
    by_hand = po.GaussianLikelihood(likelihood.operator @ prior.decoder, 0.05)
    same = sampler.sample(po.Posterior(prior.prior, by_hand, y), seeds=2)
    assert torch.equal(z, same)


class Hidden(Decoder):
    """A linear decoder whose linearity nothing knows of."""

    def __init__(self, latents: po.Space, matrix: Tensor) -> None:
        super().__init__(lambda z: z @ matrix.T, latents, (len(matrix),), lambda x: x @ matrix)


SAMPLERS = {
    "mgdm": po.MGDM(schedule=po.Karras(steps=6)),
    "mgps": po.MGPS(schedule=po.Karras(steps=6)),
    "dps": po.DPS(schedule=po.Karras(steps=6)),
    "mmps": po.MMPS(schedule=po.Karras(steps=6)),
    "daps": po.DAPS(schedule=po.Karras(steps=3)),
    "sda": po.samplers.SDA(schedule=po.Karras(steps=6)),
    "tds": po.samplers.TDS(schedule=po.Karras(steps=4), particles=4),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_linear_decoder_gives_the_samples_of_the_plain_problem(name: str) -> None:
    # Catches: a likelihood of latents that is not that of what they are decoded to.
    inner = gaussian()
    matrix, measurement = normal(6, 4, seed=5), normal(2, 6, seed=6)
    prior = Latent(inner, Hidden(inner.space, matrix))
    operator = po.operators.Matrix(measurement)
    y = torch.tensor([0.4, -0.7], dtype=F64)
    ours = po.Posterior(prior, po.GaussianLikelihood(operator, 0.3), y)
    plain = po.operators.Function(lambda z: z @ matrix.T @ measurement.T, inner.space)
    theirs = po.Posterior(inner, po.GaussianLikelihood(plain, 0.3), y)
    sampler = SAMPLERS[name]
    found, want = (sampler.sample(target, seeds=4) for target in (ours, theirs))
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-9)


def test_a_sampler_that_needs_a_linear_operator_says_what_it_is_given() -> None:
    inner = gaussian()
    prior = Latent(inner, Hidden(inner.space, normal(6, 4, seed=5)))
    likelihood = po.GaussianLikelihood(po.operators.Identity((6,)), 0.3)
    target = po.Posterior(prior, likelihood, torch.zeros(6, dtype=F64))
    with pytest.raises(po.CapabilityError, match=r"this is a Composed \(Identity\(\) @ Decoder\)"):
        po.samplers.DDRM().sample(target, seeds=1)


def test_a_log_density_of_signals() -> None:
    inner, matrix = gaussian(), normal(6, 4, seed=5)
    prior = Latent(inner, Hidden(inner.space, matrix))

    def log_prob(y: Tensor, x: Tensor) -> Tensor:
        return -((x - y) ** 2).sum(-1)

    target = po.Posterior(prior, po.FunctionLikelihood(log_prob, (6,)), torch.ones(6, dtype=F64))
    z = normal(3, 4)
    again = po.Posterior(target.prior, target.likelihood, target.y)
    for each in (target, again):
        found = each.likelihood.log_prob(each.y, z)
        torch.testing.assert_close(found, log_prob(target.y, z @ matrix.T))


def test_what_is_decoded_once() -> None:
    # Catches: a likelihood that is composed again where a target is made anew, as a meter does.
    inner = gaussian()
    square = normal(4, 4, seed=7)
    prior = Latent(inner, Hidden(inner.space, square))
    likelihood = po.GaussianLikelihood(po.operators.Identity((4,)), 0.1)
    target = po.Posterior(prior, likelihood, torch.zeros(4))
    again = po.Posterior(target.prior, target.likelihood, target.y)
    z = normal(3, 4)
    for each in (target, again):
        torch.testing.assert_close(each.likelihood.operator(z), z @ square.T)  # type: ignore[attr-defined]
    tilted = po.Tilted(Latent(po.Family(inner, {0: inner}), prior.decoder), po.Label(0), 2.0)
    assert decoder_of(po.diffusion.Counted(tilted)) is prior.decoder
    assert decoder_of(inner) is None
    target = po.Posterior(tilted, likelihood, torch.zeros(4))
    torch.testing.assert_close(target.likelihood.operator(z), z @ square.T)  # type: ignore[attr-defined]
    # An operator of latents measures latents, where the shapes tell it.
    wide = Latent(inner, Hidden(inner.space, normal(6, 4)))
    of_latents = po.GaussianLikelihood(po.operators.Identity((4,)), 0.1)
    assert measured(of_latents, wide.decoder) is of_latents
    with pytest.raises(po.ShapeError, match=r"signals of shape \(4,\), decoded to \(6,\)"):
        po.Posterior(wide, po.GaussianLikelihood(po.operators.Identity((5,)), 0.1), torch.zeros(5))


def test_decoders() -> None:
    matrix = normal(6, 4)
    decoder = Hidden(po.Space((4,), F64), matrix)
    check_operator(decoder)
    torch.testing.assert_close(decoder.encode(normal(2, 3, 6)), normal(2, 3, 6) @ matrix)
    with pytest.raises(po.CapabilityError, match="without an encoder"):
        Decoder(lambda z: z, po.Space((4,)), (4,)).encode(torch.zeros(4))
    with pytest.raises(po.ShapeError, match="gives"):
        Decoder(lambda z: z, po.Space((4,)), (5,))(torch.zeros(1, 4))
    with pytest.raises(po.ShapeError, match="decoder's latents"):
        Latent(gaussian(), Decoder(lambda z: z, po.Space((5,), F64), (5,)))


def kept(prior: Latent, operator: po.operators.Operator) -> tuple[Tensor, int]:
    """The gradient of the log-likelihood of a denoised latent, and the numbers that its graphs keep."""
    sizes = []
    x = normal(1, 4, 8, 8).float()

    def pack(value: Tensor) -> Tensor:
        sizes.append(value.numel())
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        x0, pull = prior.vjp(x, 1.0)
        pixels, back = (operator @ prior.decoder).vjp(x0)
        gradient = pull(back(pixels))
    return gradient, sum(sizes)


def test_what_a_decoder_may_give() -> None:
    # Catches: an array of NumPy as a measurement, half precision, and signals of other latents.
    def decoder(change: Any) -> Decoder:
        return Decoder(change, po.Space((2,)), (2,))

    z = torch.tensor([[0.1, 0.2]])
    for change in (lambda z: (z,), lambda z: {"sample": z}, lambda z: z.detach().numpy()):
        assert torch.equal(decoder(change)(z), z)
    assert decoder(lambda z: z.half())(z).dtype == torch.float32
    with pytest.raises(po.ShapeError, match=r"gives \(2, 2\) for \(1, 2\), and not \(1, 2\)"):
        decoder(lambda z: z.repeat(2, 1))(z)


def test_blocks_that_are_computed_again(tmp_path: Path) -> None:
    # Catches: a switch that changes numbers, or that keeps everything all the same.
    folder = save(tmp_path, parts_of("dit"))
    operator = po.operators.Identity((3, 16, 16))
    plain, again = (po.load_prior(str(folder), checkpoint=on) for on in (False, True))
    (want, much), (found, little) = (kept(p, operator) for p in (plain, again))  # type: ignore[arg-type]
    torch.testing.assert_close(found, want)
    assert little < 0.7 * much


def test_a_decoder_in_tiles() -> None:
    # Catches: an autoencoder that is copied or asked around its own switches; tiles without a derivative.
    prior = from_diffusers(parts_of("sd"), size=(32, 32))
    assert isinstance(prior, Latent)
    z, u, v = (
        normal(1, 4, 16, 16).float(),
        normal(1, 4, 16, 16, seed=1),
        normal(1, 3, 32, 32, seed=2),
    )
    whole = prior.decode(z)
    autoencoder: Any = prior.decoder.autoencoder
    autoencoder.enable_tiling()
    tiled, pullback = prior.decoder.vjp(z)
    assert 0 < (tiled - whole).norm() < whole.norm()
    near = [prior.decode(z + sign * 1e-2 * u.float()).double() for sign in (1, -1)]
    slope = ((near[0] - near[1]) / 2e-2 * v).sum()
    assert float((pullback(v.float()).double() * u).sum()) == pytest.approx(float(slope), rel=0.02)


def test_half_precision_of_a_decoder() -> None:
    # Catches: a cotangent (y - A D) / std^2 that overflows 65504 in a decoder of float16.
    parts, halved = parts_of("dit"), parts_of("dit")
    halved["vae"].half()
    want, half = from_diffusers(parts), from_diffusers(halved)
    assert isinstance(half, Latent)
    assert isinstance(want, Latent)
    z, v = normal(1, 4, 8, 8).float(), 1e6 * normal(1, 3, 16, 16).float()
    found, exact = half.decoder.vjp(z)[1](v), want.decoder.vjp(z)[1](v)
    assert (found - exact).norm() < 0.05 * exact.norm()
    assert halved["vae"].dtype == torch.float16


def test_folders_that_are_refused(tmp_path: Path) -> None:
    parts = parts_of("sd")

    def without(name: str, words: str) -> None:
        folder = save(tmp_path / name, {key: part for key, part in parts.items() if key != name})
        index = json.loads((folder / "model_index.json").read_text())
        index[name] = ["diffusers", "Part"]
        (folder / "model_index.json").write_text(json.dumps(index))
        with pytest.raises(po.InputError, match=words):
            po.load_prior(str(folder))

    without("unet", "lacks a part: there is no unet/config.json and no transformer")
    without("vae", "lacks a part: there is no vae/config.json, which decodes")
    without("scheduler", "lacks a part: there is no scheduler/scheduler_config.json")
    folder = save(tmp_path / "flux", parts)
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text().replace("UNet2DConditionModel", "FluxTransformer2DModel"))
    with pytest.raises(po.CapabilityError, match="cannot read a FluxTransformer2DModel: it packs"):
        po.load_prior(str(folder))
    with pytest.raises(po.CapabilityError, match="holds vision: posteria reads a unet or a"):
        (tmp_path / "none" / "vision").mkdir(parents=True)
        (tmp_path / "none" / "vision" / "config.json").write_text('{"_class_name": "A"}')
        po.load_prior(str(tmp_path / "none"))
    prior = po.load_prior(str(save(tmp_path / "sd", parts)))
    with pytest.raises(
        po.CapabilityError, match=r"no text encoder here \(those .*give Embeddings"
    ):
        prior.given(po.priors.Prompt("a cat"))
    with pytest.raises(po.InputError, match="multiples of 2"):
        po.load_prior(str(tmp_path / "sd"), size=(15, 16))


def test_what_stands_for_no_condition(tmp_path: Path) -> None:
    folder = str(save(tmp_path, parts_of("sd")))
    null, x = Embeddings(-TOKENS), normal(1, 4, 8, 8).float()
    prior = po.load_prior(folder, null=null)
    assert torch.equal(prior(x, 1.0), prior.given(null)(x, 1.0))
    guided = po.Tilted(prior, Embeddings(TOKENS), 3.0)
    want = -2 * prior(x, 1.0) + 3 * prior.given(Embeddings(TOKENS))(x, 1.0)
    torch.testing.assert_close(guided(x, 1.0), want, rtol=1e-4, atol=1e-4)
    with pytest.raises(po.InputError, match="null label of this network is the last, 10"):
        po.load_prior("digits", null=po.Label(1))
