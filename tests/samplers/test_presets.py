"""The published settings of all samplers: what they cost, and the levels that they visit."""

import numpy as np
import pytest
import torch

import posteria as po
from helpers import gaussian, linear_posterior, normal

# Evaluations / vjps per sample. MGPS: the table of its paper's configurations; 2 evaluations fewer
# where the last midpoint is the lowest level, and no vjps in the second fit. MGDM: 1 + sum of G +
# 19 for each of 97 levels, 9 fewer at the last.
S = po.samplers.POSTERIOR_SAMPLERS
COST = {
    (po.MGPS, "gmm"): (1840, 1242),
    (po.MGPS, "images"): (1534 - 2, 674),
    (po.MGPS, "ffhq"): (2202 - 2, 1170),
    (po.MGPS, "ffhq_ldm"): (2846, 1678),
    (po.MGPS, "imagenet"): (1698 - 2, 796),
    # 48 levels, each of 2 + 2 G: 20 of G = 20, then of 2.
    (po.MGPS, "ecg"): (2 + 48 * 2 + 2 * 456, 20 * 20 + 28 * 2),
    (po.MGDM, "gmm"): (1 + 590 + 97 * 19 - 9, 590),
    (po.MGDM, "images"): (1 + 410 + 97 * 19 - 9, 410),
    (po.MGDM, "ffhq"): (1 + 890 + 97 * 19 - 9, 890),
    (po.MGDM, "imagenet"): (1 + 890 + 97 * 19 - 9, 890),
    (po.MGDM, "ffhq_ldm"): (1 + 869 + 97 * 19 - 9, 869),
    (po.MGDM, "audio"): (2449, 1020),
    **{(po.DPS, name): (999, 998) for name in po.DPS.presets()},
    **{(S["mmps"], "paper"): (64, 64), (S["pigdm"], "paper"): (999, 999)},
    **{(S["tmpd"], "paper"): (999, 1998)},
    **{(S["lgd"], name): (999, 999) for name in ("mc10", "mc100")},
    **{(S["sda"], name): (511, 511) for name in ("lorenz", "kolmogorov")},
    # 200 levels of 5 steps; of latents 50 of 2.
    **{(S["daps"], n): (100 if n.startswith("ldm") else 1000, 0) for n in S["daps"].presets()},
    (S["resample"], "ffhq_ldm"): (499, 0),
    **{(S["pnp_dm"], "images"): (3688, 0), (S["pnp_dm"], "phase_retrieval"): (3132, 0)},
    **{(S["diffpir"], name): (100, 0) for name in ("blur", "super_resolution")},
    (S["diffpir"], "inpainting"): (20, 0),
    **{
        (S["diffpir"], f"{name}_1000"): (999, 0)
        for name in ("blur", "super_resolution", "inpainting")
    },
    (S["dcps"], "images"): (909, 609),
    **{(S["red_diff"], "images"): (100, 0), (S["red_diff"], "inverse_problems"): (999, 0)},
    **{(S["ddrm"], "images"): (20, 0), (S["ddrm"], "images_200"): (199, 0)},
    (S["ddnm"], "images"): (100, 0),
    # 250 steps, and 24 jumps of 10 steps 9 times over.
    (S["repaint"], "images"): (250 + 24 * 10 * 9, 0),
    **{(S["score_sde"], name): (2000, 0) for name in ("mri", "ct")},
    **{(S["msdm"], name): (300, 0) for name in ("dirac", "gaussian")},
    # Whole populations.
    **{(S["tds"], "images"): (4 * 100, 4 * 100), (S["fps"], "images"): (5 * 999, 0)},
    **{
        (po.samplers.TFG, "cifar_label"): (50, 50),
        (po.samplers.TFG, "imagenet_label"): (100, 100),
    },
    (po.samplers.TFG, "gaussian_deblur"): (100, 100),
    (po.samplers.FK, "images"): (4 * 100, 0),
    **{(S["mcgdiff"], "images"): (64 * 100, 0), (S["mcgdiff"], "gmm"): (128 * 100, 0)},
}


# Of each kind the settings that cost least, which are run; `test_choose.py` runs the others in fewer steps.
LEAST = {}
for kind, name in sorted(COST, key=lambda preset: sum(COST[preset])):
    LEAST.setdefault(kind, name)


# Settings of images, on a toy.
@pytest.mark.filterwarnings("ignore:.*(diverged|starts from noise):RuntimeWarning")
@pytest.mark.parametrize(
    ("kind", "name"), COST, ids=lambda v: v if isinstance(v, str) else v.__name__
)
def test_published_settings_cost_what_the_papers_say(kind: type[po.MGPS], name: str) -> None:
    # Catches: a rule for the inner steps read from the wrong end, an evaluation made twice.
    target = linear_posterior(gaussian(2))
    if kind is S["repaint"]:
        hole = po.operators.Inpainting(torch.tensor([True, False]), (2,))
        target = po.Posterior(target.prior, po.GaussianLikelihood(hole, std=0.5), normal(1))
    if kind is S["msdm"]:
        mixing = po.operators.ColorMixing(torch.ones(1, 2), (2,))
        target = po.Posterior(target.prior, po.GaussianLikelihood(mixing, std=0.5), normal(1))
    sampler, cost = kind.published(name), COST[kind, name]
    assert sampler.evaluations(target) == sum(cost)
    if name == LEAST[kind]:
        counted = po.diffusion.Counted(target.prior)
        sampler.sample(po.Posterior(counted, target.likelihood, target.y), seeds=[0])
        assert (counted.meter.forward, counted.meter.backward) == cost


def test_every_published_setting_has_a_cost() -> None:
    assert set(COST) == {
        (kind, name) for kind in po.samplers.POSTERIOR_SAMPLERS.values() for name in kind.presets()
    }


@pytest.mark.parametrize(("kind", "last"), [(po.MGPS, 299), (po.MGDM, 99)])
def test_the_settings_of_latent_ffhq_visit_the_levels_of_its_network(
    kind: type[po.MGPS | po.MGDM], last: int
) -> None:
    # Catches: DDPM's linear table, whose highest level is 156 and not 83. Scaled linear betas from 0.0015 to
    # 0.0195 by themselves: sqrt(beta) is linear, abar their product, sigma^2 = 1 / abar - 1.
    abar = np.cumprod(1 - np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2)
    levels = kind.published("ffhq_ldm").schedule.levels()
    # The table of the official code has a 1 in front, so that step 999 is the noise before the last.
    assert levels[0] == pytest.approx((1 / abar[998] - 1) ** 0.5, rel=1e-6)
    assert levels[0] == pytest.approx(83.0, rel=2e-3)
    assert len(levels) == last + 1
