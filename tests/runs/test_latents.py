"""Runs whose prior draws latents, or is given a text: what is shown, saved and measured are signals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image

import posteria as po
from common.models.pipelines import parts_of, save
from common.models.text_pipelines import stable_diffusion
from common.models.unets import save as save_unet, tiny
from posteria.priors import Latent, Prompt
from posteria.runs.job import run
from posteria.runs.jobs import certify
from posteria.runs.jobs.generate import prepare as prepare_draws
from posteria.runs.jobs.restore import prepare
from posteria.runs.request import Certify, Generate, Restore
from posteria.runs.store import Store


def picture(folder: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return str(folder / "picture.png")


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "samples.npz") as found:
        return dict(found)


@pytest.mark.filterwarnings("ignore:.*diverged")
def test_latents_are_kept_beside_the_pixels(tmp_path: Path) -> None:
    # Catches: latents shown as pictures, a residual of latents, a run that goes on from pixels.
    folder = save(tmp_path / "ldm", parts_of("ldm"))
    given: dict[str, Any] = {
        "prior": f"diffusers:{folder}",
        "input": picture(tmp_path),
        "task": "sr",
        "simulate": True,
        "options": {"factor": 2},
        "steps": 3,
    }
    results, _ = run(prepare(Restore(**given, samples=2)), Store(tmp_path / "run"))
    found = arrays(tmp_path / "run")
    prior = po.load_prior(str(folder))
    assert isinstance(prior, Latent)
    x = prior.decode(torch.from_numpy(found["latents"]))
    torch.testing.assert_close(torch.from_numpy(found["samples"]), x)
    assert found["mean"].shape == (3, 16, 16)
    operator = po.operators.SuperResolution(2, (3, 16, 16))
    residual = (torch.from_numpy(found["measurement"]) - operator(x)) / 0.05
    want = residual.flatten(1).square().mean(1).sqrt().tolist()
    assert results.residual == pytest.approx(want, rel=1e-3)  # type: ignore[attr-defined]
    assert set(results.metrics) >= {"psnr"}  # type: ignore[attr-defined]
    # Catches: a certificate of a measurement of latents, or a traceback once all of them are drawn.
    with pytest.raises(po.CapabilityError, match="draws latents of them"):
        certify.prepare(Certify(prior=given["prior"], task="sr", options={"factor": 2}))
    run(prepare(Restore(**given, samples=3)), Store(tmp_path / "run"))
    more = arrays(tmp_path / "run")
    assert np.array_equal(more["latents"][:2], found["latents"])
    assert more["samples"].shape == (3, 3, 16, 16)


@pytest.mark.filterwarnings("ignore")
def test_texts(tmp_path: Path) -> None:
    # Catches: a text that does not reach the network, a negative one that stands for nothing.
    name = stable_diffusion(tmp_path / "sd")
    given: dict[str, Any] = {"prior": name, "prompt": "a cat", "steps": 3, "samples": 1}
    restored = {}
    for negative, weight in ((None, 1.0), (None, 3.0), ("dog", 3.0)):
        own = {"input": picture(tmp_path), "task": "inpaint", "options": {"mask": "box"}}
        request = Restore(**given, **own, negative=negative, weight=weight)
        job = prepare(request)
        store = Store(tmp_path / f"restored-{negative}-{weight}")
        run(job, store)
        restored[negative, weight] = arrays(store.folder)["latents"]
        null = None if negative is None else Prompt(negative)
        prior = po.load_prior(name, null=null)
        member = po.Tilted(prior, Prompt("a cat"), weight)
        target = po.Posterior(member, job.target.likelihood, job.target.y)
        want = job.methods["samples"].sampler.sample(target, seeds=[0])
        np.testing.assert_allclose(restored[negative, weight], want.numpy(), rtol=1e-3, atol=1e-3)
    assert len({each.tobytes() for each in restored.values()}) == 3
    drawn = prepare_draws(Generate(**given, negative="dog"))
    highest = po.schedules.ScaledLinearBetas().sigmas[-1]
    assert drawn.methods["cfg"].sampler.schedule.levels()[0] == pytest.approx(highest)
    table = job.methods["samples"].sampler.schedule
    assert table == po.schedules.Table(steps=3, betas=po.schedules.ScaledLinearBetas())
    with pytest.raises(po.InputError, match=r"noise up to 14\.61, and the schedule starts at 80"):
        prepare_draws(Generate(**given, settings={"schedule": "Karras(steps=2)"}))
    run(drawn, Store(tmp_path / "drawn"))
    assert arrays(tmp_path / "drawn")["samples"].shape == (1, 3, 16, 16)
    assert drawn.title.startswith("the text 'a cat' of diffusers:")


def test_what_the_autoencoder_loses_is_said(tmp_path: Path) -> None:
    # Catches: samples blamed for what no latents can hold.
    name = str(save(tmp_path / "ldm", parts_of("ldm")))
    request = Restore(prior=name, input=picture(tmp_path), task="denoise", simulate=True, steps=3)
    job = prepare(request)
    prior: Any = po.load_prior(name)
    assert job.truth is not None
    off = float((prior.decode(prior.encode(job.truth[None])) - job.truth).square().mean().sqrt())
    assert any(f"is off by {off:.4g} in data units" in note for note in job.notes)


@pytest.mark.filterwarnings("ignore")
def test_a_class_without_an_unconditional_member(tmp_path: Path) -> None:
    # Catches: a network of classes alone of which the command line can draw nothing.
    name = str(save_unet(tmp_path / "net", tiny(num_class_embeds=3), DDPMScheduler()))
    request = Generate(prior=name, label=1, weight=1.0, steps=2, samples=1)
    run(prepare_draws(request), Store(tmp_path / "run"))
    own = po.load_prior(name).given(po.Label(1))
    sampler = prepare_draws(request).methods["unconditional"].sampler
    np.testing.assert_allclose(
        arrays(tmp_path / "run")["samples"], sampler.sample(own, [0]).numpy(), atol=1e-4
    )
    with pytest.raises(po.CapabilityError, match="or --weight 1 on the command line"):
        prepare_draws(replace(request, weight=2.0))


@pytest.mark.filterwarnings("ignore")
def test_a_prior_itself(tmp_path: Path) -> None:
    # Catches: a prior without classes from which nothing can be drawn, and a text that is asked for in vain.
    name = str(save(tmp_path / "ldm", parts_of("ldm")))
    job = prepare_draws(Generate(prior=name, steps=3, samples=2))
    run(job, Store(tmp_path / "drawn"))
    want = po.Unconditional(schedule=po.Karras(steps=3)).sample(po.load_prior(name), seeds=2)
    np.testing.assert_array_equal(arrays(tmp_path / "drawn")["latents"], want.numpy())
    assert job.title == f"samples of {name}, unconditional"
    with pytest.raises(po.CapabilityError, match="nothing to guide it by"):
        prepare_draws(Generate(prior=name, rules=("apg",)))
    texts = stable_diffusion(tmp_path / "sd")
    with pytest.raises(po.InputError, match="with --prompt; --rule unconditional draws without"):
        prepare_draws(Generate(prior=texts))


def test_requests_that_are_refused() -> None:
    for given, words in (
        ({"label": 1, "prompt": "a"}, "--label or --prompt, not both"),
        ({"negative": "a"}, "give that too"),
        ({"weight": 2.0}, "give one"),
    ):
        with pytest.raises(po.InputError, match=words):
            Restore(**given).check()  # type: ignore[arg-type]
    with pytest.raises(po.CapabilityError, match="cannot be given"):
        prepare(Restore(prompt="a cat"))
