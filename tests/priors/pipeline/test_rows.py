"""Every family that people have, row by row as in docs/priors.md: read, against its own library, or refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers as d
import pytest
import torch
from torch import Tensor

import posteria as po
from common.models.pipelines import parts_of, save
from common.models.text_pipelines import pixart, stable_diffusion_3
from common.models.unets import save as save_unet, tiny
from helpers import normal
from posteria.priors import Embeddings, Given, Latent
from priors.pipeline.test_given import FAMILIES as GIVEN, clean, dance
from priors.readers.test_adm import TINY, made
from priors.test_latent import check_decoder

pytestmark = pytest.mark.filterwarnings("ignore")
PAGE = Path(__file__).parents[3] / "docs" / "priors.md"
X = normal(2, 3, 8, 8, seed=1).float()
Check = Callable[[Path], None]


def same(ours: Tensor, theirs: Tensor) -> None:
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def pixels(scheduler: Any, **changes: Any) -> Check:
    """A pixel model with a noise table: the scheduler's own estimate of x_0 at three of its steps."""

    def check(folder: Path) -> None:
        unet = tiny(**changes)
        prior = po.load_prior(str(save_unet(folder, unet, scheduler)))
        labels = {"class_labels": torch.tensor([1, 1])} if changes.get("num_class_embeds") else {}
        member = prior.given(po.Label(1)) if labels else prior
        for step in (20, 500, 980):
            abar = scheduler.alphas_cumprod[step].double()
            with torch.no_grad():
                output = unet(X, step, **labels).sample
                want = scheduler.step(output, step, X).pred_original_sample
                same(member(X / float(abar.sqrt()), float(((1 - abar) / abar).sqrt())), want)

    return check


def edm(scheduler: Any) -> Check:
    def check(folder: Path) -> None:
        unet = tiny()
        prior = po.load_prior(str(save_unet(folder, unet, scheduler)))
        for sigma in (0.05, 1.0, 20.0):
            x, time = sigma * X, scheduler.precondition_noise(sigma)
            with torch.no_grad():
                output = unet(scheduler.precondition_inputs(x, sigma), time).sample
                same(prior(x, sigma), scheduler.precondition_outputs(x, output, sigma))

    return check


def flow(folder: Path) -> None:
    scheduler, unet = d.FlowMatchEulerDiscreteScheduler(), tiny()
    prior = po.load_prior(str(save_unet(folder, unet, scheduler)))
    for share in (0.1, 0.5, 0.95):
        with torch.no_grad():
            want = X - share * unet(X, 1000 * share).sample
            same(prior(X / (1 - share), share / (1 - share)), want)


def refused(words: str, make: Check) -> tuple[str, Check]:
    """What is said, and a load that says it."""

    def check(folder: Path) -> None:
        with pytest.raises(po.PosteriaError, match=words):
            make(folder)

    return f"refused: {words}", check


def loads(scheduler: Any, **changes: Any) -> Check:
    def check(folder: Path) -> None:
        po.load_prior(str(save_unet(folder, tiny(**changes), scheduler)))

    return check


def latent(family: str) -> Check:
    """A folder of latents: its network's output at three steps as its scheduler takes it, and its pixels."""

    def check(folder: Path) -> None:
        parts = parts_of(family)
        prior = po.load_prior(str(save(folder, parts)))
        assert isinstance(prior, Latent)
        network, scheduler = parts.get("unet") or parts["transformer"], parts["scheduler"]
        z = normal(2, *prior.space.shape, seed=2).float()
        tokens, pooled = normal(7, 8, seed=3).float(), normal(8, seed=4).float()
        ids = torch.tensor([16.0, 16, 0, 0, 16, 16]).expand(2, -1)
        texts: dict[str, Any] = {"encoder_hidden_states": tokens.expand(2, -1, -1)}
        added = {"text_embeds": pooled.expand(2, -1), "time_ids": ids}
        member, given = {
            "ldm": (prior, {}),
            "dit": (po.Label(7), {"class_labels": torch.tensor([7, 7])}),
            "sdxl": (Embeddings(tokens, pooled), texts | {"added_cond_kwargs": added}),
        }.get(family, (Embeddings(tokens), texts))
        member = member if member is prior else prior.given(member)
        plain = d.DDPMScheduler(
            **{
                key: scheduler.config[key]
                for key in ("beta_schedule", "beta_start", "beta_end", "prediction_type")
            },
            clip_sample=False,
        )
        for step in (20, 500, 980):
            abar = plain.alphas_cumprod[step].double()
            with torch.no_grad():
                output = network(z, torch.tensor([step, step]), **given).sample[:, : z.shape[1]]
                want = plain.step(output, step, z).pred_original_sample
                same(member(z / float(abar.sqrt()), float(((1 - abar) / abar).sqrt())), want)
        check_decoder(prior, parts.get("vae") or parts["vqvae"], z)

    return check


def given(family: str) -> Check:
    """A network that is given its pipeline's arguments, from a folder."""

    def check(folder: Path) -> None:
        make, shape = GIVEN[family]
        parts, arguments = make()
        save(folder, parts)
        if shape:
            (folder / "posteria.json").write_text(json.dumps({"shape": shape}))
        prior = po.load_prior(str(folder))
        network = parts.get("unet") or parts["transformer"]
        x = normal(2, *prior.space.shape, seed=4).float()
        rows = {
            k: v.expand(2, *v.shape) if isinstance(v, Tensor) else v for k, v in arguments.items()
        }
        sigma = po.schedules.LinearBetas().sigmas[500]
        share = sigma / (1 + sigma)
        scale, time = (
            (1 - share, 1000 * share)
            if family in {"sd3", "wan"}
            else (
                1 / math.hypot(1, sigma),
                math.atan(sigma) / math.pi * 2 if family == "stable-audio" else 500.0,
            )
        )
        with torch.no_grad():
            times = torch.full((2,), time)
            output = network(x, timestep=times, return_dict=False, **rows)[0]
            same(
                prior.given(Given(**arguments))(x / scale, sigma),
                clean(family, output, x / scale, sigma),
            )

    return check


def texts(make: Any) -> Check:
    def check(folder: Path) -> None:
        make().save_pretrained(folder)
        prior = po.load_prior(str(folder))
        z = prior.space.zeros(1)
        assert not torch.equal(prior.given(po.priors.Prompt("cat"))(z, 1.0), prior(z, 1.0))

    return check


def sound(folder: Path) -> None:
    network, scheduler = dance(), d.IPNDMScheduler()
    prior = po.load_prior(str(save(folder, {"unet": network, "scheduler": scheduler})))
    scheduler.set_timesteps(10)
    x = normal(2, 2, 64).float()
    time, alpha, beta = scheduler.timesteps[5], scheduler.alphas[5], scheduler.betas[5]
    with torch.no_grad():
        v = network(x, time).sample
        want = (x - beta * (x * beta + v * alpha)) / alpha
        same(prior(x / alpha, float(beta / alpha)), want)


def state_dict(folder: Path, **changes: Any) -> None:
    signature, layout = TINY["ffhq"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(po.priors.readers.adm.LAYOUTS, signature, layout)
        network = made(signature, layout, (1, 2, 2), {2})
        state = {**network.state_dict(), **changes}
        torch.save(state, folder / "network.pt")
        prior = po.load_prior(f"adm:{folder / 'network.pt'}", size=(16, 16))
        x = normal(2, 3, 16, 16).float()
        sigma = po.schedules.LinearBetas().sigmas[500]
        with torch.no_grad():
            noise = network(x / math.hypot(1, sigma), torch.full((2,), 500.0))[:, :3]
            same(prior(x, sigma), x - sigma * noise)


def pickled(folder: Path) -> None:
    torch.save({"ema": 1}, folder / "edm.pkl")
    po.load_prior(str(folder / "edm.pkl"))


def with_class(name: str, **changes: Any) -> Check:
    """A Stable Diffusion whose network is of another class or has other settings."""

    def check(folder: Path) -> None:
        save(folder, parts_of("sd"))
        path = (
            folder
            / ("unet" if name != "scheduler" else name)
            / ("config.json" if name != "scheduler" else "scheduler_config.json")
        )
        config = json.loads(path.read_text()) | changes
        path.write_text(json.dumps(config))
        if "_class_name" not in changes:
            d.UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
        po.load_prior(str(folder))

    return check


TABLE = {"clip_sample": False}
TIMES = {"trained_betas": [2e-5 * k for k in range(1, 1001)]}
LEARNED = {"variance_type": "learned_range"}
ROWS: dict[str, Check | tuple[str, Check]] = {
    "DDPM, linear table": pixels(d.DDPMScheduler(**TABLE)),
    "DDIM, scaled linear table": pixels(d.DDPMScheduler(beta_schedule="scaled_linear", **TABLE)),
    "iDDPM, cosine table": pixels(d.DDPMScheduler(beta_schedule="squaredcos_cap_v2", **TABLE)),
    "table of one's own (`trained_betas`)": pixels(d.DDPMScheduler(**TIMES, **TABLE)),
    "sigmoid table": pixels(d.DDPMScheduler(beta_schedule="sigmoid", **TABLE)),
    "zero terminal SNR, v": pixels(
        d.DDPMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction", **TABLE)
    ),
    "learned variance (6 channels out)": pixels(
        d.DDPMScheduler(**LEARNED, **TABLE), out_channels=6
    ),
    "v prediction": pixels(d.DDPMScheduler(prediction_type="v_prediction", **TABLE)),
    "x_0 prediction": pixels(d.DDPMScheduler(prediction_type="sample", **TABLE)),
    "classes": pixels(d.DDPMScheduler(**TABLE), num_class_embeds=3),
    "EDM": edm(d.EDMEulerScheduler(sigma_data=0.7)),
    "EDM, other sign": edm(d.EDMEulerScheduler(prediction_type="v_prediction")),
    "EDM, DPM-Solver++": edm(d.EDMDPMSolverMultistepScheduler()),
    "flow matching": flow,
    "consistency model": refused(
        "cannot read a CMStochasticIterativeScheduler", loads(d.CMStochasticIterativeScheduler())
    ),
    "Karras VE": refused("cannot read a KarrasVeScheduler", loads(d.KarrasVeScheduler())),
    "LCM": refused("cannot read a LCMScheduler", loads(d.LCMScheduler())),
    "continuous times, noise predicted": refused(
        "timestep_type='continuous' that predicts 'epsilon'",
        loads(d.EulerDiscreteScheduler(timestep_type="continuous")),
    ),
    "6 channels in, 3 out": refused(
        "takes 6 channels and gives 3", loads(d.DDPMScheduler(), in_channels=6)
    ),
    "classes by `class_embed_type`": refused(
        "class_embed_type='timestep'", loads(d.DDPMScheduler(), class_embed_type="timestep")
    ),
    "ADM (guided-diffusion) state dict": state_dict,
    "ADM that enlarges pictures": refused(
        "takes 6 channels: it enlarges pictures",
        lambda folder: state_dict(folder, **{"input_blocks.0.0.weight": torch.zeros(32, 6, 3, 3)}),
    ),
    "EDM, EDM2 pickle": refused("is a file of weights", pickled),
    "latent diffusion (VQ)": latent("ldm"),
    "Stable Diffusion 1.5": latent("sd"),
    "Stable Diffusion 2.1 (v)": latent("sd-v"),
    "Stable Diffusion XL": latent("sdxl"),
    "DiT": latent("dit"),
    "Stable Diffusion 3": given("sd3"),
    "Stable Diffusion 3, its texts": texts(stable_diffusion_3),
    "PixArt-alpha": given("pixart"),
    "PixArt-alpha, its texts": texts(pixart),
    "AudioLDM 2": given("audioldm2"),
    "Stable Audio": given("stable-audio"),
    "Wan": given("wan"),
    "Dance Diffusion": sound,
    "Flux": refused(
        "cannot read a FluxTransformer2DModel: it packs its latents",
        with_class("unet", _class_name="FluxTransformer2DModel"),
    ),
    "inpainting (9 channels)": refused(
        "takes 9 channels for latents of 4", with_class("unet", in_channels=9)
    ),
    "unCLIP, AudioLDM 1": refused(
        "and needs more than a noise level and a text",
        with_class(
            "unet", class_embed_type="simple_projection", projection_class_embeddings_input_dim=4
        ),
    ),
    "LCM of Stable Diffusion": refused(
        "cannot read a LCMScheduler", with_class("scheduler", _class_name="LCMScheduler")
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_read_rightly_or_refused(name: str, tmp_path: Path) -> None:
    # Catches: a family that is read as another one, in silence.
    row = ROWS[name]
    (row[1] if isinstance(row, tuple) else row)(tmp_path)


def test_the_page_has_these_rows() -> None:
    # Catches: a page that promises what is not read, or leaves out what is refused.
    outcomes = (row[0] if isinstance(row, tuple) else "read" for row in ROWS.values())
    for name, outcome in zip(ROWS, outcomes, strict=True):
        assert f"| {name} | {outcome} |" in PAGE.read_text(), f"| {name} | {outcome} |"
