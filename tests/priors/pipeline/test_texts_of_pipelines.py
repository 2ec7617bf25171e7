"""What real text encoders make of texts reaches the network as in the pipelines themselves, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import posteria as po
from common.models.text_pipelines import pixart, stable_diffusion, stable_diffusion_3
from helpers import normal
from posteria.core.errors import ReadingWarning
from posteria.priors import Given, Prompt, from_diffusers
from posteria.priors.pipeline import texts

pytestmark = pytest.mark.filterwarnings("ignore")


def seen_by(pipeline: Any, network: Any, **call: Any) -> list[dict[str, Any]]:
    """What a pipeline gives to its network, evaluation by evaluation."""
    calls, forward = [], network.forward

    def watched(*args: Any, **given: Any) -> Any:
        calls.append({"hidden_states": args[0]} | given if args else given)
        return forward(*args, **given)

    network.forward = watched
    pipeline.set_progress_bar_config(disable=True)
    try:
        pipeline(output_type="latent", num_inference_steps=2, guidance_scale=3.0, **call)
    finally:
        del network.forward
    return calls


def leaves(found: Any) -> dict[str, Tensor]:
    """The tensors of arguments, by their names."""
    flat = {
        k: v
        for key, each in found.items()
        for k, v in (each if isinstance(each, dict) else {key: each}).items()
    }
    return {key: value for key, value in flat.items() if isinstance(value, Tensor)}


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (stable_diffusion_3, {"third": True}),
        (stable_diffusion_3, {"third": False}),
        (pixart, {"told": False}),
        (pixart, {"told": True}),
    ],
    ids=["sd3", "sd3-without-t5", "pixart", "pixart-1024"],
)
def test_what_a_network_is_given_is_what_its_pipeline_gives(
    make: Any, settings: dict[str, bool]
) -> None:
    # Catches: pooled embeddings of another encoder, a mask that is lost, a negative text that is not read, a size that
    # a network was told in training and is not told here.
    pipeline = make(**settings)
    size = (32, 16) if settings.get("told") else (16, 16)
    shape = {"height": size[0], "width": size[1]}
    extra = {"use_resolution_binning": False} if make is pixart else {}
    calls = seen_by(
        pipeline, pipeline.transformer, prompt="cat", negative_prompt="dog", **shape, **extra
    )
    prior = from_diffusers(pipeline, size=size, null=Prompt("dog"))
    inner: Any = prior.prior  # type: ignore[attr-defined]
    for place, text in ((0, "dog"), (1, "cat")):
        ours = leaves(inner._seen(Prompt(text)).arguments)
        theirs = leaves(calls[0])
        assert ours.keys() == theirs.keys() - {"hidden_states", "timestep"}
        for key, value in ours.items():
            torch.testing.assert_close(
                value.to(theirs[key].dtype), theirs[key][place], rtol=1e-5, atol=1e-5
            )
    x = normal(1, *prior.space.shape).float()
    torch.testing.assert_close(prior(x, 1.0), prior.given(Prompt("dog"))(x, 1.0))
    assert not torch.equal(prior(x, 1.0), prior.given(Prompt("cat"))(x, 1.0))
    with pytest.raises(po.CapabilityError, match=r"given a text, Prompt.*cannot be given Label"):
        prior.given(po.Label(1))


def test_folders_that_lack_what_reads_texts(tmp_path: Path) -> None:
    # Catches: a part that a library makes up where its files are missing, and errors of three libraries.
    stable_diffusion(tmp_path / "sd")
    for part, words in (
        ("tokenizer", "there is no tokenizer, which its model_index.json names"),
        ("text_encoder/config.json", r"of .* \(StableDiffusionPipeline\) cannot be loaded: "),
        (
            "text_encoder/model.safetensors",
            "cannot be loaded: Error no file named model.safetensors",
        ),
        ("model_index.json", "there is no model_index.json"),
    ):
        folder = tmp_path / part.partition(".")[0].replace("/", "-")
        shutil.copytree(tmp_path / "sd", folder)
        path = folder / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        with pytest.raises(po.InputError, match=words):
            po.load_prior(str(folder))
    weights = tmp_path / "sd" / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(po.InputError, match=r"cannot be loaded: .*header"):
        po.load_prior(str(tmp_path / "sd"))


def test_a_pipeline_that_was_saved_without_an_encoder(tmp_path: Path) -> None:
    # Catches: Stable Diffusion 3 without T5, a usual way to save memory, that is refused as a folder.
    pipeline = stable_diffusion_3(third=False)
    pipeline.save_pretrained(tmp_path)
    priors: list[Any] = [po.load_prior(f"diffusers:{tmp_path}"), from_diffusers(pipeline)]
    ours, theirs = (leaves(each.prior._seen(Prompt("cat")).arguments) for each in priors)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key])


def test_a_dictionary_of_parts_does_not_say_how_texts_are_read() -> None:
    # Catches: transformers that is missed, where the encoders are there and their pipeline is not.
    pipeline = stable_diffusion_3(third=False)
    prior = from_diffusers(pipeline.components)
    for make in (lambda: prior.given(Prompt("cat")), prior.unconditional):
        with pytest.raises(
            po.CapabilityError,
            match=r"give from_diffusers the pipeline itself, or Given\(\.\.\.\)",
        ):
            make()


class Trap:
    def __reduce__(self) -> Any:
        return print, ("this has run",)


def test_text_encoders_that_run_code_are_not_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stable_diffusion(tmp_path)
    weights = tmp_path / "text_encoder" / "model.safetensors"
    weights.unlink()
    torch.save({"trap": Trap()}, weights.with_name("pytorch_model.bin"))
    with pytest.raises(po.InputError, match=r"text encoders of .* cannot be loaded"):
        po.load_prior(str(tmp_path))
    assert "this has run" not in capsys.readouterr().out


@pytest.mark.filterwarnings("always")
def test_a_text_that_is_cut_off_and_a_network_that_is_not_trained(tmp_path: Path) -> None:
    # Catches: an end of a text that is dropped in silence; a network of texts that nobody doubts.
    prior = po.load_prior(stable_diffusion(tmp_path))
    with pytest.warns(UserWarning, match="'a cat sat' has 9 tokens, of which this model reads 7"):
        member = prior.given(Prompt("a cat sat"))
    with pytest.warns(ReadingWarning, match="of pure noise"):
        member(normal(1, 4, 8, 8).float(), 1.0)


def test_encoders_are_on_the_device_while_they_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: encoders that hold memory of the device beside the network, and those of a user that are moved for good.
    moves: list[str] = []

    class Encoder(nn.Linear):
        def to(self, device: torch.device) -> Any:
            moves.append(str(device))

    pipeline = type("Pipeline", (), {"text_encoder": Encoder(1, 1)})()
    with texts._lent(pipeline, torch.device("cpu")):
        assert not moves
    with pytest.raises(ZeroDivisionError), texts._lent(pipeline, torch.device("cuda")):
        assert moves == ["cuda"]
        raise ZeroDivisionError
    assert moves == ["cuda", "cpu"]


def test_stable_diffusion_may_be_given_its_arguments(tmp_path: Path) -> None:
    prior = po.load_prior(stable_diffusion(tmp_path))
    inner: Any = prior.prior  # type: ignore[attr-defined]
    x = normal(2, 4, 8, 8).float()
    arguments = inner._seen(Prompt("cat")).arguments
    torch.testing.assert_close(
        prior.given(Given(**arguments))(x, 1.0), prior.given(Prompt("cat"))(x, 1.0)
    )
