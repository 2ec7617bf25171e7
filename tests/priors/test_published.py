"""Cards of published models, and which families are read."""

from typing import Any

import pytest

import posteria as po
from posteria.priors import PUBLISHED, READERS, card_of
from posteria.priors.pipeline.reading import READ, check_kind


def test_cards_say_what_a_user_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name, card in PUBLISHED.items():
        assert card_of(name) is card
        assert all((card.about, card.licence, card.cite, card.path))
        assert card.reader in READERS
        if card.where == "hub":
            assert card_of(f"diffusers:{card.path}") is card
            continue
        with pytest.raises(
            po.InputError, match=rf"does not fetch {name}: get it from https://.*adm:FILE"
        ):
            po.load_prior(name)
    with pytest.raises(po.InputError, match="Did you mean 'ddpm-celebahq-256'"):
        po.load_prior("ddpm-celebahq")


# Classes of networks in diffusers whose denoiser is known and tested, and some whose is not.
FAMILIES = {
    "UNet2DModel": True,
    "UNet2DConditionModel": True,
    "DiTTransformer2DModel": True,
    "SD3Transformer2DModel": True,
    "PixArtTransformer2DModel": True,
    "AudioLDM2UNet2DConditionModel": True,
    "StableAudioDiTModel": True,
    "WanTransformer3DModel": True,
    "UNet1DModel": True,
    "FluxTransformer2DModel": False,
    "QwenImageTransformer2DModel": False,
    "Lumina2Transformer2DModel": False,
    "AuraFlowTransformer2DModel": False,
    "ConsistencyDecoderVAE": False,
    "UVit2DModel": False,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_read_or_refused_by_name(name: str) -> None:
    # Catches: a network whose time is in other units, read as if it were a scheduler's.
    if FAMILIES[name]:
        check_kind(name)
        assert name in READ
        return
    with pytest.raises(po.CapabilityError, match=rf"cannot read a {name}.*posteria\.Network"):
        check_kind(name)
