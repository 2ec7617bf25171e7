"""Texts to sound in the layout of AudioLDM 2: latents, texts and vocoder against what their pipeline does."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import soundfile
import torch
from torch import Tensor, nn

import posteria as po
from common.models.pipelines import drawn, kl
from helpers import normal
from posteria.priors import Latent, Prompt, from_diffusers
from posteria.priors.load import card_of, load_prior

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195}


class AudioLDM2UNet2DConditionModel(nn.Module):
    """What the network of that name takes, without transformers, which diffusers' own needs."""

    def __init__(self) -> None:
        super().__init__()
        self.config = diffusers.configuration_utils.FrozenDict(in_channels=4, sample_size=6)
        self.mix = nn.Linear(3 + 5, 4)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_1: Tensor,
        encoder_attention_mask_1: Tensor,
        return_dict: bool,
    ) -> tuple[Tensor]:
        seen = (encoder_hidden_states_1 * encoder_attention_mask_1[..., None]).sum(1)
        shift = self.mix(torch.cat([encoder_hidden_states.sum(1), seen], 1))
        return (
            sample.tanh() + shift[..., None, None] * (timestep[:, None, None, None] / 100).cos(),
        )


class Vocoder(nn.Module):
    """A vocoder that makes ten samples of a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(upsample_rates=[5, 2], model_in_dim=8, sampling_rate=1000)
        self.dtype, self.made = torch.float32, nn.Linear(8, 10)

    def forward(self, mel: Tensor) -> Tensor:
        return self.made(mel).flatten(1).tanh()


def pipeline() -> Any:
    def encode_prompt(text: str, device: Any, count: int, guided: bool) -> tuple[Tensor, ...]:
        assert (count, guided) == (1, False)
        seed = len(text)
        return (
            normal(1, 4, 5, seed=seed).float(),
            torch.tensor([[1, 1, 1, 0]]),
            normal(1, 2, 3, seed=seed + 1).float(),
        )

    return SimpleNamespace(
        unet=drawn(AudioLDM2UNet2DConditionModel()),
        vae=kl(in_channels=1, out_channels=1),
        vocoder=drawn(Vocoder()),
        scheduler=diffusers.DDIMScheduler(**BETAS, clip_sample=False),
        device=torch.device("cpu"),
        encode_prompt=encode_prompt,
        **dict.fromkeys(("text_encoder", "text_encoder_2"), 1),
        **dict.fromkeys(("language_model", "projection_model"), 1),
    )


def test_texts_and_sound_are_those_of_the_pipeline() -> None:
    # Catches: the two streams of a text exchanged, a mask that is lost, a decoder without its scale, a shape of
    # latents for pictures.
    pipe = pipeline()
    prior = from_diffusers(pipe)
    assert isinstance(prior, Latent)
    assert prior.space.shape == (4, 6, 4)
    z, sigma = (
        normal(2, 4, 6, 4, seed=9).float(),
        po.schedules.ScaledLinearBetas(0.0015, 0.0195).sigmas[300],
    )
    tokens, mask, generated = (
        part.expand(2, -1, *part.shape[2:]) for part in pipe.encode_prompt("rain", None, 1, False)
    )
    with torch.no_grad():
        time = torch.full((2,), 300.0)
        (eps,) = pipe.unet(z / math.hypot(1, sigma), time, generated, tokens, mask, False)
        mel = pipe.vae.decode(z / 0.3).sample.squeeze(1)
        sound = pipe.vocoder(mel)
    torch.testing.assert_close(prior.given(Prompt("rain"))(z, sigma), z - sigma * eps)
    torch.testing.assert_close(prior.decode(z), sound[:, None])
    assert prior.given(Prompt("rain")) is prior.given(Prompt("rain"))
    empty, none = prior.given(Prompt(""))(z, sigma), prior.unconditional()(z, sigma)
    torch.testing.assert_close(empty, none)
    assert not prior.decoder.encodes


def test_a_length_is_in_samples_of_sound() -> None:
    assert from_diffusers(pipeline(), size=(121,)).space.shape == (4, 7, 4)
    with pytest.raises(po.InputError, match="A sound has at least one sample, not 0"):
        from_diffusers(pipeline(), size=(0,))
    pipe = pipeline()
    del pipe.vocoder.config.upsample_rates
    with pytest.raises(po.CapabilityError, match="how long the sound of a Vocoder is; give shape"):
        from_diffusers(pipe)
    pipe = pipeline()
    pipe.language_model = None
    with pytest.raises(po.CapabilityError, match=r"is given Given\(...\), the arguments"):
        from_diffusers(pipe).given(Prompt("rain"))
    with pytest.raises(
        po.CapabilityError, match=r"Prompt\('...'\), or Given\(...\); it cannot be given Label"
    ):
        from_diffusers(pipeline()).given(po.Label(1))


def test_the_card_of_a_folder_with_a_vocoder(tmp_path: Path) -> None:
    # Catches: sound that is taken for pictures.
    for part, config in {
        "unet": {"_class_name": "AudioLDM2UNet2DConditionModel"},
        "vae": {"_class_name": "AutoencoderKL"},
        "vocoder": {"architectures": ["SpeechT5HifiGan"], "sampling_rate": 24000},
    }.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    card = card_of(str(tmp_path))
    assert (card.modality, card.data.rate, card.reader) == ("audio", 24000, "pipeline")
    with pytest.raises(po.InputError, match=r"draws sound: size=160000.*; 8 x 8 is not"):
        load_prior(str(tmp_path), size=(8, 8))


@pytest.mark.filterwarnings("ignore")
def test_a_small_one_from_its_folder_to_a_file(tmp_path: Path) -> None:
    # Catches: parts that are not loaded from their files, and sound that is not written.
    pytest.importorskip("transformers", minversion="5.0.0")
    from common.models.audioldm import audioldm
    from posteria.runs.job import run
    from posteria.runs.jobs.generate import prepare
    from posteria.runs.request import Generate
    from posteria.runs.store import Store

    pipe = audioldm()
    pipe.save_pretrained(tmp_path / "model")
    prior = load_prior(str(tmp_path / "model"))
    z = normal(1, *prior.space.shape).float()
    with torch.no_grad():
        mel = pipe.vae.decode(z / pipe.vae.config.scaling_factor).sample
        sound = pipe.mel_spectrogram_to_waveform(mel)
    torch.testing.assert_close(prior.decode(z)[:, 0], sound)
    request = Generate(
        prior=str(tmp_path / "model"),
        prompt="a cat",
        negative="noise",
        rules=("cfgig",),
        weight=2.0,
        steps=8,
        samples=2,
        size=(1000,),
    )
    run(prepare(request), Store(tmp_path / "run"))
    values, rate = soundfile.read(tmp_path / "run" / "samples-1.wav")
    assert rate == 16000
    assert len(values) >= 1000
    assert values.std() > 0
