"""Which schedulers of diffusers are read, as what, and which are refused."""

from typing import Any

import diffusers
import pytest

import posteria as po
from posteria.diffusion import Epsilon
from posteria.priors import schedule_of
from posteria.priors.pipeline.schedulers import (
    ANGLES,
    EDMS,
    FLOWS,
    SCORES,
    TABLES,
    config_of,
    reading_of,
)


def config(name: str, **changes: Any) -> dict[str, Any]:
    """A scheduler's configuration as a folder has it."""
    table = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
    return {"_class_name": name, "num_train_timesteps": 1000, **table, **changes}


def schedulers() -> list[str]:
    """Every scheduler of diffusers that can be made without arguments."""
    names = []
    for name in dir(diffusers):
        if name.endswith("Scheduler") and not name.startswith("Flax"):
            try:
                config_of(getattr(diffusers, name)())
            except Exception:  # It needs an argument, or a package that is not there.
                continue
            names.append(name)
    return names


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", schedulers())
def test_a_scheduler_is_read_as_what_it_is_or_refused(name: str) -> None:
    # Catches: a scheduler without a noise table that is read as DDPM's, up to 456 times wrong.
    scheduler = getattr(diffusers, name)()
    try:
        reading = reading_of(scheduler)
    except po.CapabilityError as error:
        assert f"cannot read a {name}" in str(error)
        assert "posteria.Network" in str(error)
        assert name not in TABLES | FLOWS | EDMS | SCORES | ANGLES
        return
    if name in TABLES:
        sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt()
        assert reading.betas.sigmas == pytest.approx(sigmas.tolist(), rel=2e-3)
    else:
        assert name in FLOWS | EDMS | SCORES | ANGLES


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        (config("LCMScheduler"), "cannot read a LCMScheduler"),
        (config("MyOwnScheduler"), "cannot read a MyOwnScheduler"),
        (
            config("EulerDiscreteScheduler", timestep_type="continuous"),
            "timestep_type='continuous' that predicts 'epsilon'",
        ),
        (config("DDPMScheduler", beta_schedule="steps"), "noise table 'steps'"),
        (config("DDPMScheduler", beta_schedule=None), "has no beta_schedule"),
        (config("HeunDiscreteScheduler", beta_start=None), "has no beta_start"),
        (config("DDPMScheduler", beta_end="0.02"), "beta_end of this DDPMScheduler is a number"),
        (config("DDPMScheduler", prediction_type="noise"), "predicts 'noise'"),
        (config("UniPCMultistepScheduler", use_flow_sigmas=True), "with use_flow_sigmas"),
        (config("FlowMatchEulerDiscreteScheduler", invert_sigmas=True), "with invert_sigmas"),
        (
            config("EDMEulerScheduler", sigma_data=0.5, prediction_type="sample"),
            "predicts 'sample'",
        ),
        (config("EDMEulerScheduler"), "has no sigma_data"),
        (config("EDMEulerScheduler", sigma_data=0.0), "sigma_data of .* above 0; 0.0 is not"),
        (config("DDPMScheduler", num_train_timesteps=1000.5), "is an integer; 1000.5 is not"),
        (config("DDPMScheduler", trained_betas=[0.01] * 500), "500 entries, .* is 1000"),
        (config("DDPMScheduler", trained_betas=[True, False]), "no list of numbers"),
        (config("DDIMScheduler", rescale_betas_zero_snr="false"), "true or false; 'false' is not"),
        (config("DDPMScheduler", predict_epsilon="false"), "true or false; 'false' is not"),
        (
            config("DDPMScheduler", predict_epsilon=False, prediction_type="epsilon"),
            "predict_epsilon=false, .* prediction_type='epsilon'; keep",
        ),
        (config("DDPMScheduler", beta_schedule=["linear"]), "noise table"),
        (config("FlowMatchEulerDiscreteScheduler", num_train_timesteps=0), "above 0; 0 is not"),
        (
            config("FlowMatchEulerDiscreteScheduler", prediction_type="epsilon"),
            "FlowMatchEulerDiscreteScheduler that predicts 'epsilon'",
        ),
        (config("IPNDMScheduler", prediction_type="sample"), "predicts 'sample'"),
        (config("ScoreSdeVeScheduler", prediction_type="v_prediction"), "predicts 'v_prediction'"),
        (
            config("CosineDPMSolverMultistepScheduler", sigma_data=0.5),
            "predicts 'epsilon' with sigma_data=0.5",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_schedulers_that_are_refused(scheduler: dict[str, Any], words: str) -> None:
    # Catches: an entry that is not there and is replaced by the default of one class, one of another type that is
    # taken for true, or cut, and one that says something else than the class, or another entry.
    with pytest.raises(po.PosteriaError, match=words):
        reading_of(scheduler)


def test_entries_of_another_class_and_empty_ones() -> None:
    # Catches: a `null` taken for false, and times that only DDPM's solvers have given to a network of EDM.
    assert isinstance(reading_of(config("DDPMScheduler", predict_epsilon=None)), Epsilon)
    edm = config(
        "EDMEulerScheduler",
        sigma_data=0.7,
        prediction_type="v_prediction",
        timestep_type="continuous",
    )
    assert reading_of(edm) == po.diffusion.EDM(0.7, -1)


@pytest.mark.filterwarnings("ignore:__array__")
@pytest.mark.parametrize("name", ["DDIMInverseScheduler", "DPMSolverMultistepInverseScheduler"])
def test_levels_that_rise_are_no_schedule(name: str) -> None:
    # Catches: a schedule of the lowest level alone.
    with pytest.raises(po.CapabilityError, match=f"{name} goes from the signal to the noise"):
        schedule_of(getattr(diffusers, name)(), 10)


def test_flow_matching_by_another_solver() -> None:
    flow = config(
        "UniPCMultistepScheduler", use_flow_sigmas=True, prediction_type="flow_prediction"
    )
    assert reading_of(flow) == po.diffusion.FlowMatching(1000.0)


@pytest.mark.parametrize("curve", ["sigmoid", "laplace"])
def test_tables_that_diffusers_makes(curve: str) -> None:
    # Catches: a table that is refused although the scheduler has it.
    try:
        scheduler = diffusers.DDPMScheduler(beta_schedule=curve)
    except NotImplementedError:
        pytest.skip("this version of diffusers has no such table")
    abar = scheduler.alphas_cumprod
    sigmas = reading_of(config_of(scheduler)).betas.sigmas
    assert sigmas == pytest.approx(((1 - abar) / abar).sqrt().tolist(), rel=2e-3)
