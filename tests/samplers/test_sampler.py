"""Every registered sampler: the battery, its cost, its published settings, and what it refuses."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from common.sampler import (
    QUICK,
    SMALL,
    TARGETS,
    TOLD,
    suiting,
    takes,
)
from helpers import F64, gaussian, linear_posterior, mixture, normal
from posteria.core.errors import WITHOUT_DERIVATIVES
from posteria.core.rng import Rng
from posteria.testing import check_sampler, example_posterior

# Those that treat every measurement alike, so that a composed one is no other than its product.
ALIKE = ["mgps", "mgps warm", "mgdm", "mgdm midpoint", "dps", "lgd", "sda"]
ALIKE += ["daps langevin", "pnp_dm langevin", "red_diff"]


def test_every_registered_sampler_is_here() -> None:
    assert set(po.samplers.POSTERIOR_SAMPLERS) == {name.split()[0] for name in SMALL}
    for name, kind in po.samplers.POSTERIOR_SAMPLERS.items():
        assert kind is type(SMALL[name])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in SMALL
        for kind, target in TARGETS.items()
        if takes(name, target) and (kind != "holes" or name == "repaint")
    ],
)
def test_battery(name: str, kind: str) -> None:
    check_sampler(QUICK[name], TARGETS[kind])


@pytest.mark.parametrize("name", po.samplers.POSTERIOR_SAMPLERS)
def test_the_defaults_and_published_settings_rebuild_from_their_repr(name: str) -> None:
    # Catches: a part of a sampler that the registry does not know, so that a run cannot be
    # repeated from its record.
    kind = po.samplers.POSTERIOR_SAMPLERS[name]
    for sampler in (kind(), *kind.presets().values(), SMALL[name]):
        assert po.samplers.rebuild_sampler(repr(sampler)) == sampler


class Opaque(po.Denoiser):
    """A prior that leaves PyTorch, as one behind no_grad or ONNX does."""

    def __init__(self, prior: po.Denoiser) -> None:
        self.prior, self.space = prior, prior.space

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self.prior(x, sigma).detach()


@pytest.mark.parametrize("name", SMALL)
def test_a_prior_without_a_derivative(name: str) -> None:
    # Catches: a missing derivative that counts as 0, and an advice that does not help.
    kind = suiting(name)
    opaque = replace(TARGETS[kind], prior=Opaque(TARGETS[kind].prior))
    try:
        drawn = SMALL[name].sample(opaque, range(3))
    except po.CapabilityError as error:
        assert name.split()[0] not in WITHOUT_DERIVATIVES
        assert re.search(r"Opaque has no derivative.*ddrm, ddnm", str(error))
    else:
        # A new sampler need not be named by the advice.
        assert name.split()[0] in WITHOUT_DERIVATIVES or name not in TOLD
        assert torch.allclose(drawn, SMALL[name].sample(TARGETS[kind], range(3)))


@pytest.mark.parametrize("name", SMALL)
def test_samples_are_the_same_inside_inference_mode(name: str) -> None:
    # Catches: gradients that are 0 there, so that the prior comes out.
    target = TARGETS[suiting(name)]
    with torch.inference_mode():
        inside = QUICK[name].sample(target, range(3))
    assert torch.equal(inside, QUICK[name].sample(target, range(3)))


@pytest.mark.parametrize("solver", po.solvers.SOLVERS.values())
def test_battery_of_the_prior(solver: type[po.solvers.Solver]) -> None:
    check_sampler(po.Unconditional(solver=solver(), schedule=po.Karras(steps=12)), gaussian())


class Coupled(po.DPS):
    """DPS with one norm over the whole batch, the bug of two well-known libraries."""

    def step(
        self, target: Any, state: po.solvers.State, sigma: float, sigma_next: float, rng: Rng
    ) -> po.solvers.State:
        moved = po.DPS.step(self, target, state, sigma, sigma_next, rng)
        return replace(moved, x=moved.x * (1 + 1e-3 * state.x.norm()))


class Single(po.DPS):
    """DPS with a threshold that float32 does not see."""

    def step(
        self, target: Any, state: po.solvers.State, sigma: float, sigma_next: float, rng: Rng
    ) -> po.solvers.State:
        moved = po.DPS.step(self, target, state, sigma, sigma_next, rng)
        seen = torch.ones((), dtype=state.x.dtype) + 1e-9 > 1
        return replace(moved, x=moved.x if seen or sigma_next > 0 else 2 * moved.x)


@pytest.mark.filterwarnings("ignore:.*(diverged|starts from|ends at):RuntimeWarning")
def test_battery_finds_planted_bugs() -> None:
    with pytest.raises(AssertionError, match="depends on its batch"):
        check_sampler(Coupled(schedule=po.schedules.Table(steps=6)))
    with pytest.raises(AssertionError, match="another law in float32"):
        check_sampler(Single(schedule=po.schedules.Table(steps=6)))
    check_sampler(po.DPS(schedule=po.schedules.Table(steps=6)))


def test_a_chaotic_sampler_does_not_see_its_batch_either() -> None:
    # DPS doubles a difference of one bit many times over when there are few measurements. Catches:
    # a product whose rounding depends on the number of rows, which made samples differ by 9.9.
    target, seeds = linear_posterior(mixture()), range(20)
    together = po.DPS().sample(target, seeds)
    split = [po.DPS().sample(target, part) for part in (seeds[:16], seeds[16:17], seeds[17:])]
    assert torch.allclose(together, torch.cat(split), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", SMALL)
def test_one_measurement_a_sample(name: str) -> None:
    # Catches: a broadcast that mixes the measurements of different samples.
    prior, sampler = mixture(), QUICK[name]
    one = linear_posterior(prior)
    if name == "repaint":
        holes = po.operators.Inpainting(torch.tensor([True, False, True, False]), (4,))
        one = po.Posterior(prior, po.GaussianLikelihood(holes, std=0.5), normal(2))
    if name == "reverse":
        noise = po.GaussianLikelihood(po.operators.Identity((4,)), std=0.5)
        one = po.Posterior(prior, noise, normal(4))
    ys = normal(3, *one.y.shape, seed=5)
    many = po.Posterior(prior, one.likelihood, ys)
    together = sampler.sample(many, seeds=[4, 5, 6])
    for i in range(3):
        alone = sampler.sample(po.Posterior(prior, one.likelihood, ys[i]), seeds=[4 + i])
        assert torch.allclose(alone[0], together[i], atol=1e-10)


@pytest.mark.parametrize("shape", [(2, 3), (1, 3, 4), (2, 2, 2, 2)])
@pytest.mark.parametrize("name", [name for name in SMALL if takes(name, TARGETS["linear"])])
def test_any_event_shape(name: str, shape: tuple[int, ...]) -> None:
    # Catches: [batch, channels, height, width] written into a sampler: the flattened problem must
    # give the same samples.
    d = int(torch.tensor(shape).prod())
    means, eye = 2 * normal(2, d), torch.eye(d, dtype=F64).expand(2, d, d)
    a, y = normal(3, d, seed=3), normal(3, seed=4)
    samples = []
    for event in ((d,), shape):
        prior = po.GaussianMixture(torch.ones(2), means.reshape(2, *event), eye)
        likelihood = po.GaussianLikelihood(po.operators.Matrix(a, event), std=0.5)
        samples.append(QUICK[name].sample(po.Posterior(prior, likelihood, y), seeds=[0, 1]))
    assert samples[1].shape == (2, *shape)
    assert torch.allclose(samples[0], samples[1].flatten(1), atol=1e-9)


@pytest.mark.parametrize("name", ALIKE)
def test_latent_priors_need_no_more_than_a_decoder(name: str) -> None:
    # A measurement of a decoded latent is the composed measurement of the latent. Catches: a
    # decoder that is not differentiated.
    prior = mixture(3)
    decoder, a, y = normal(5, 3, seed=8), normal(2, 5, seed=9), normal(2, seed=10)
    inner = po.operators.Function(lambda z: z @ decoder.to(z).mT, (3,))
    samples = []
    for operator in (
        po.operators.Composed(po.operators.Matrix(a), inner),
        po.operators.Matrix(a @ decoder),
    ):
        target = po.Posterior(prior, po.GaussianLikelihood(operator, std=0.5), y)
        samples.append(SMALL[name].sample(target, seeds=[0, 1]))
    assert torch.allclose(*samples, atol=1e-9)


def test_cost_of_the_parts() -> None:
    # With G inner steps, R sweeps and M points: MGDM costs 1 + levels * R (G + M - 1), MGPS 2 +
    # levels * (2 + G).
    target = linear_posterior(mixture(2))
    counted = po.diffusion.Counted(target.prior)
    measured = po.Posterior(counted, target.likelihood, target.y)
    sampler = po.MGDM(
        schedule=po.Karras(steps=9), gibbs=3, points=4, inner=po.samplers.InnerSteps(6)
    )
    sampler.sample(measured, seeds=[0])
    assert (counted.meter.forward, counted.meter.backward) == (1 + 7 * 3 * (6 + 3), 7 * 3 * 6)


def test_what_they_refuse() -> None:
    target = example_posterior()
    own = po.Posterior(
        target.prior, po.FunctionLikelihood(lambda y, x: -x.flatten(1).abs().sum(-1)), target.y
    )
    with pytest.raises(
        po.CapabilityError, match="DPS needs a GaussianLikelihood; this is a FunctionLikelihood"
    ):
        po.DPS().sample(own, seeds=[0])
    with pytest.raises(
        po.CapabilityError, match="MGDM needs a Posterior; this is a GaussianMixture"
    ):
        po.MGDM().sample(target.prior, seeds=[0])
    with pytest.raises(
        po.CapabilityError, match="Unconditional needs a Denoiser; this is a Posterior"
    ):
        po.Unconditional().sample(target, seeds=[0])
    with pytest.raises(
        po.InputError, match=r"no published setting of MGDM 'fhq'.*Did you mean 'ffhq'"
    ):
        po.MGDM.published("fhq")
    with pytest.raises(po.InputError, match="Exact has no published settings"):
        po.Exact.published("images")


@pytest.mark.parametrize(
    "law",
    [
        po.samplers.Midpoint(0.5),
        po.samplers.Midpoint(0.01),
        po.samplers.Uniform(),
        po.samplers.Mix(),
        po.samplers.Deterministic(),
    ],
)
@pytest.mark.parametrize(
    "schedule",
    [po.schedules.Table(steps=700), po.schedules.Table(steps=999), po.Karras(steps=5)],
    ids=repr,
)
def test_the_earlier_time_is_never_zero(
    schedule: po.schedules.Schedule, law: po.samplers.IndexLaw
) -> None:
    # Catches: a time that rounds down to the level 0, whose reference has a standard deviation of 0 and a log of -inf.
    sampler = po.MGDM(schedule=schedule, index=law, points=2, inner=po.samplers.InnerSteps(1))
    assert sampler.sample(linear_posterior(gaussian(2)), seeds=[0, 1]).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (po.MGDM, {"gibbs": 0}),
        (po.MGDM, {"points": 1}),
        (po.MGDM, {"lr": 0.0}),
        (po.MGDM, {"eta": 1.5}),
        (po.MGDM, {"early": (11, -0.1)}),
        (po.MGDM, {"early": 11}),
        (po.MGPS, {"alpha": 0.0}),
        (po.MGPS, {"alpha": 1.1}),
        (po.MGPS, {"lr": float("nan")}),
        (po.DPS, {"zeta": -1.0}),
        (po.DPS, {"eta": -0.1}),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    kind: type[po.MGDM], wrong: dict[str, Any]
) -> None:
    with pytest.raises(po.InputError, match=next(iter(wrong))):
        kind(**wrong)


def test_measurement_without_noise_left_is_not_nan() -> None:
    # Catches: DPS dividing by a residual of exactly 0 (the official code ends in nan on two cells
    # of gmm25).
    prior = po.Gaussian(torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64))
    blind = po.operators.Matrix(torch.zeros(1, 2, dtype=F64))
    target = po.Posterior(prior, po.GaussianLikelihood(blind, std=0.1), torch.zeros(1, dtype=F64))
    assert (
        po
        .DPS(schedule=po.schedules.Table(steps=20))
        .sample(target, seeds=range(4))
        .isfinite()
        .all()
    )


FEWEST: list[tuple[po.samplers.Sampler[Any], int]] = [
    (po.MGDM(), 3),
    (po.MGPS(), 2),
    (po.samplers.DCPS(blocks=1), 2),
    (po.samplers.DDNM(travel=1), 2),
    (po.DPS(), 2),
    (po.Guided(rule=po.guidance.DPS()), 2),
]


@pytest.mark.filterwarnings("ignore:.*(starts from|ends at) noise:RuntimeWarning")
@pytest.mark.parametrize(("sampler", "fewest"), FEWEST, ids=lambda it: type(it).__name__)
def test_steps_that_would_leave_the_measurement_out_are_refused(
    sampler: po.samplers.Sampler[Any], fewest: int
) -> None:
    # Catches: a sampler whose last steps only denoise, and that drew from the prior where there were no others.
    target = example_posterior()
    other, least = replace(target, y=target.y + 1), sampler.with_steps(fewest)
    assert not torch.equal(least.sample(target, 1), least.sample(other, 1))
    with pytest.raises(po.InputError, match=f"from {fewest} steps on"):
        sampler.with_steps(fewest - 1).sample(target, 1)


@pytest.mark.parametrize("name", ["daps", "fps"])
def test_batches_are_the_same_draws(name: str) -> None:
    # Catches: seeds that are lost or in another order, a population that is cut.
    sampler, target = SMALL[name], TARGETS["linear"]
    seeds = range(3 * sampler.shared)
    whole = sampler.sample(target, seeds)
    assert torch.equal(sampler.sample(target, seeds, batch=2), whole)
    for wrong in (0, 2.5, "2"):
        with pytest.raises(po.InputError, match="A batch of samples is an integer of at least 1"):
            sampler.sample(target, seeds, batch=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["daps", "fps"])
def test_batches_take_their_own_measurements(name: str) -> None:
    # Catches: measurements that are refused for being more than a batch has, and those of other samples.
    sampler, one = SMALL[name], TARGETS["linear"]
    target = replace(one, y=normal(5, *one.y.shape, seed=5))
    assert torch.equal(sampler.sample(target, 5, batch=2), sampler.sample(target, 5))
    with pytest.raises(po.ShapeError, match="5 measurements for 4 seeds"):
        sampler.sample(target, 4, batch=2)


@pytest.mark.parametrize("name", ["dps", "tds"])
def test_a_state_of_another_run_is_refused(name: str) -> None:
    # Catches: a traceback from a zip of streams, a run that is over before it began, a state that lacks what is needed.
    sampler, target = SMALL[name], TARGETS["linear"]
    state, rng = list(sampler.checkpoints(target, 4 * sampler.shared))[5]
    resume = state, rng.state()
    for other, seeds in ((sampler, 1), (sampler.with_steps(3), 4 * sampler.shared)):
        with pytest.raises(po.InputError, match="of another run"):
            list(other.iterate(target, seeds, resume))
    if name == "dps":
        with pytest.raises(po.InputError, match="of another run than 4 seeds of SDA"):
            list(SMALL["sda"].iterate(target, 4, resume))
