"""The page about priors, on small models in the layouts that it names."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, IPNDMScheduler

from common.models.pipelines import parts_of, save
from common.models.unets import save as save_unet, tiny
from posteria.priors.readers.adm import LAYOUTS
from priors.pipeline.test_given import dance, wan
from priors.readers.test_adm import TINY, made

PAGE = Path(__file__).parents[2] / "docs" / "priors.md"


@pytest.mark.filterwarnings("ignore:.*(diverged|starts from noise)")
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: a page that nobody has followed.
    monkeypatch.chdir(tmp_path)
    save_unet(tmp_path / "google" / "ddpm-celebahq-256", tiny(), DDPMScheduler())
    save(tmp_path / "CompVis" / "ldm-celebahq-256", parts_of("ldm"))
    save(tmp_path / "stable-diffusion-v1-5" / "stable-diffusion-v1-5", parts_of("sd"))
    sound = {"unet": dance(), "scheduler": IPNDMScheduler()}
    save(tmp_path / "harmonai" / "maestro-150k", sound)
    signature, layout = TINY["ffhq"]
    monkeypatch.setitem(LAYOUTS, signature, layout)
    torch.save(made(signature, layout, (1, 2, 2), {2}).state_dict(), "ffhq_10m.pt")
    parts, _ = wan()
    names: dict[str, Any] = {
        **parts,
        "net": lambda x, sigma: x / (1 + sigma**2),
        "score": lambda x, sigma: -x,
        "velocity": lambda x, time: x,
    }
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(code, names)
        prior = names.get("prior")
        if prior is not None:
            member = names["member"] if names.get("member") else prior
            x = member.space.zeros(1)
            assert member(x, 1.0).shape == x.shape
        names.pop("member", None)
    assert names["x"].shape == (2, 3, 16, 16)
