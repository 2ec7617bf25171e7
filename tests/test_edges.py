"""Wrong types at the public edges are one sentence each, and none is a silent answer."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import posteria as po
from posteria.diffusion import EDM
from posteria.diffusion.betas import Betas
from posteria.diffusion.schedule import Schedule
from posteria.diffusion.solver import SOLVERS
from posteria.samplers.fitted.gaussian_vi import InnerSteps
from posteria.samplers.fitted.mgdm import Midpoint, Mix
from posteria.samplers.splitting.langevin import Langevin
from posteria.testing import example_posterior, example_tilted

TARGET = example_posterior()
SMALL = po.DAPS(schedule=po.Karras(steps=2))


@pytest.mark.parametrize(
    "seeds", [2.5, "8", None, [1.5], [[1]], torch.randn(2), torch.tensor([1.0])]
)
def test_seeds_are_integers(seeds: Any) -> None:
    # Catches: a seed that is cut to an integer, so that 1.2 and 1.7 draw the same sample; "12" read as seeds 1 and 2.
    with pytest.raises(po.InputError, match="one integer a sample"):
        SMALL.sample(TARGET, seeds)
    with pytest.raises(po.InputError, match="one integer a sample"):
        po.Rng(seeds)


@pytest.mark.parametrize(
    "seeds", [2, np.int64(2), torch.tensor(2), [0, 1], np.arange(2), torch.arange(2)], ids=repr
)
def test_integers_of_any_make_are_seeds(seeds: Any) -> None:
    # Catches: a count that is known only as Python's own int.
    assert torch.equal(SMALL.sample(TARGET, seeds), SMALL.sample(TARGET, range(2)))


def test_a_generator_of_seeds_is_read_once() -> None:
    # Catches: seeds that are used up by the time the samples are taken from the last state.
    sampler = po.samplers.FPS(schedule=po.Karras(steps=2))
    x = sampler.sample(TARGET, (seed for seed in [0, 1]))
    assert torch.equal(x, sampler.sample(TARGET, range(2)))


WRONG: dict[str, Callable[[], object]] = {
    "needs a Denoiser; this is a str": lambda: po.Posterior("digits", TARGET.likelihood, TARGET.y),  # type: ignore[arg-type]
    "needs a Likelihood; this is a": lambda: po.Posterior(
        TARGET.prior,
        TARGET.likelihood.operator,
        TARGET.y,  # type: ignore[arg-type]
    ),
    "needs a Solver; this is a str": lambda: po.Guided(solver="heun"),  # type: ignore[arg-type]
    r"the class Heun: make one, Heun\(\.\.\.\)": lambda: po.Guided(solver=po.Heun),  # type: ignore[arg-type]
    "choose needs a Posterior": lambda: po.choose(TARGET.prior),  # type: ignore[arg-type]
    "load_prior needs a str; this is an int": lambda: po.load_prior(3),  # type: ignore[arg-type]
    "integer, at least 1; 2.5 is not": lambda: SMALL.with_steps(2.5),  # type: ignore[arg-type]
    "integer, at least 1; '3' is not": lambda: SMALL.with_steps("3"),  # type: ignore[arg-type]
    "noise level 'a' holds <U1 values": lambda: po.GaussianLikelihood(
        TARGET.likelihood.operator,
        "a",  # type: ignore[arg-type]
    ),
    r"MGDM\(\).with_steps\(20\) sets": lambda: po.MGDM(steps=20),  # type: ignore[call-arg]
    r"say sample\(target, seeds=8\)": lambda: po.MMPS(num_samples=8),  # type: ignore[call-arg]
    "Did you mean 'steps'": lambda: po.Karras(n_steps=9),  # type: ignore[call-arg]
    "setting of APG 'momentum'; there are weight": lambda: po.guidance.APG(momentum=0),  # type: ignore[call-arg]
    "measurement holds complex128 values": lambda: po.Posterior(
        TARGET.prior,
        TARGET.likelihood,
        TARGET.y.numpy() * 1j,  # type: ignore[arg-type]
    ),
    "measurement holds torch.complex128 values": lambda: po.Posterior(
        TARGET.prior, TARGET.likelihood, TARGET.y * 1j
    ),
    "measurement is no array of numbers": lambda: po.Posterior(
        TARGET.prior,
        TARGET.likelihood,
        [[1.0], 2.0],  # type: ignore[arg-type]
    ),
    "measurement holds object values": lambda: po.Posterior(TARGET.prior, TARGET.likelihood, None),  # type: ignore[arg-type]
    "MGDM needs a Schedule; this is an int": lambda: po.MGDM(schedule=20),  # type: ignore[arg-type]
    "log-density gives one number for each signal": lambda: po.samplers.TDS().sample(
        po.Posterior(TARGET.prior, po.FunctionLikelihood(lambda y, x: -x.square()), TARGET.y), 1
    ),
    "Counts are whole numbers": lambda: po.Posterior(
        TARGET.prior, po.PoissonLikelihood(TARGET.likelihood.operator, 10.0), TARGET.y.abs() / 7
    ),
    "weight of a tilted law is a number of at least 0; '2' is not": lambda: example_tilted("2"),  # type: ignore[arg-type]
    "weight of a tilted law is a number of at least 0": lambda: example_tilted(float("nan")),
    "A mean holds finite numbers": lambda: po.Gaussian(torch.full((2,), torch.nan), torch.eye(2)),
    "A matrix holds finite numbers": lambda: po.operators.Matrix(torch.full((1, 2), torch.nan)),
    "A kernel holds torch.complex64 values": lambda: po.operators.Blur(
        torch.ones(3, 3) * 1j, (1, 8, 8)
    ),
    "A mask holds 1 where": lambda: po.operators.STFTMask(
        torch.full(po.operators.STFTMask.cells(16, 8), 0.4), (1, 16), 8
    ),
    "A factor is an integer of at least 1; 2.0": lambda: po.operators.SuperResolution(
        2.0,  # type: ignore[arg-type]
        (1, 8, 8),
    ),
    "quality of a JPEG is 1 to 100; 50.5": lambda: po.operators.JPEG(50.5, (1, 8, 8)),  # type: ignore[arg-type]
    "takes 1 to 16 bits; 2.5": lambda: po.operators.Quantization(2.5, (1, 8, 8)),  # type: ignore[arg-type]
    "pad is an integer of at least 0; 1.5": lambda: po.operators.PhaseRetrieval(
        (1, 8, 8),
        1.5,  # type: ignore[arg-type]
    ),
    "A side of a signal or a measurement is an integer of at least 1; 0": lambda: po.Space((0,)),
    "noise table holds variances above 0": lambda: po.schedules.LinearBetas(end=1.5),
    "noise table .* that of GivenBetas": lambda: po.schedules.GivenBetas((float("nan"), 0.2)),
    "rate of noise grows": lambda: po.schedules.VP(beta_min=30.0),
    "There is no prior ''": lambda: po.load_prior(""),
    "There is no prior 'diffusers:'": lambda: po.load_prior("diffusers:"),
    "no device 'nope'": lambda: po.load_prior("digits", device="nope"),
    "no device 'cuda:99'": lambda: po.load_prior("digits", device="cuda:99"),
}


@pytest.mark.parametrize("dtype", [">f8", ">f4", "<f2", "longdouble", ">i4", "u2", "u8"])
def test_a_measurement_of_any_dtype_is_read(dtype: str) -> None:
    # Catches: an array of a detector's byte order, which PyTorch does not take.
    y = np.rint(TARGET.y.numpy()).clip(0)
    exact = po.Posterior(TARGET.prior, TARGET.likelihood, torch.from_numpy(y))
    read = po.Posterior(TARGET.prior, TARGET.likelihood, y.astype(dtype))  # type: ignore[arg-type]
    assert torch.equal(read.y, exact.y)


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_type_is_a_sentence(sentence: str) -> None:
    # Catches: an AttributeError or TypeError from inside, that names no value of the user's.
    with pytest.raises(po.PosteriaError, match=sentence):
        WRONG[sentence]()


def test_signatures_are_those_of_the_settings() -> None:
    # Catches: help(posteria.MGDM) that shows *args; a TypeError of another cause that is taken for a keyword's.
    assert [*inspect.signature(po.Karras).parameters] == ["steps", "sigma_min", "sigma_max", "rho"]
    with pytest.raises(TypeError, match="positional"):
        po.MGDM(20)  # type: ignore[misc]


def test_samples_that_left_the_prior_behind_are_said_to_have() -> None:
    # Catches: numbers of 1e3 or NaN that are handed over as samples of digits.
    prior = po.load_prior("digits")
    operator = po.operators.Inpainting(po.operators.box_mask(28, 28), prior.space.shape)
    likelihood = po.GaussianLikelihood(operator, std=0.05)
    target = po.Posterior(prior, likelihood, operator(torch.zeros(prior.space.shape)))
    sampler = po.Guided(rule=po.guidance.MMPS(), solver=po.Heun()).with_steps(4)
    for draw in (sampler.sample, sampler.run):
        with pytest.warns(
            RuntimeWarning, match="Guided diverged: its samples reach .* below 11.6"
        ):
            draw(target, 1)
    nan = po.Network(lambda x, time: x / 0, po.Space((2,)), EDM())
    with pytest.warns(RuntimeWarning, match=r"reach (nan|inf) in data units.* below 320"):
        po.Unconditional().sample(nan, 1)


KINDS = {
    **{kind.__name__: kind for kind in (*Betas.__subclasses__(), *Schedule.__subclasses__())},
    **{kind.__name__: kind for kind in (po.schedules.Karras, InnerSteps, Langevin, Mix, Midpoint)},
    **SOLVERS,
    **po.samplers.SAMPLERS,
    **po.guidance.RULES,
    **{f"rule {name}": kind for name, kind in po.guidance.LIKELIHOOD_RULES.items()},
}


@pytest.mark.parametrize("name", KINDS)
def test_settings_out_of_their_range_are_a_sentence(name: str) -> None:
    # Catches: a range of a setting that the class does not have, or that is not looked at.
    kind: Any = KINDS[name]
    for setting, interval in getattr(kind, "limits", {}).items():
        for wrong in (float(interval[1:].split(",")[0]) - 1, float("nan"), "much"):
            with pytest.raises(po.InputError, match=f"{setting} of .* is .*; .* is not"):
                kind(**{setting: wrong})
