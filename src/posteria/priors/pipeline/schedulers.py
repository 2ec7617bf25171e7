"""What a scheduler of diffusers says of its network: what it predicts, and how it is conditioned on the noise level."""

from typing import Any

from ...core.errors import CapabilityError, InputError, require
from ...diffusion.betas import (
    Betas,
    CosineBetas,
    GivenBetas,
    LinearBetas,
    ScaledLinearBetas,
    zero_terminal_snr,
)
from ...diffusion.network import (
    EDM,
    X0,
    Angle,
    Epsilon,
    FlowMatching,
    Parametrisation,
    Score,
    Velocity,
)

# The classes that are read. A class that is not here may have the same entries and mean something
# else by them (LCM and TCD belong to distilled networks, which are no denoisers; CogVideoX shifts
# its table), so that a new one is read only once it has been looked at.
TABLES = {
    *("DDIMInverseScheduler", "DDIMParallelScheduler", "DDIMScheduler", "DDPMParallelScheduler"),
    *("DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepInverseScheduler"),
    *("DPMSolverMultistepScheduler", "DPMSolverSDEScheduler", "DPMSolverSinglestepScheduler"),
    *("EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"),
    *("KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LMSDiscreteScheduler"),
    *("PNDMScheduler", "RePaintScheduler", "SASolverScheduler", "UniPCMultistepScheduler"),
}
FLOWS = {"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"}
EDMS = {"EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"}
# Those whose configuration says nothing of the network, because all their networks are alike: NCSN++ of the
# variance-exploding SDE, whose data are in [0, 1], Dance Diffusion and Stable Audio.
SCORES = {"ScoreSdeVeScheduler"}
ANGLES = {"IPNDMScheduler", "CosineDPMSolverMultistepScheduler"}
PREDICTIONS: dict[str, type[Epsilon | Velocity | X0]] = {
    "epsilon": Epsilon,
    "v_prediction": Velocity,
    "sample": X0,
}
WAY_OUT = (
    "Wrap the network yourself: posteria.Network(module, space, parametrisation), and try it with "
    "posteria.testing.check_denoiser."
)


def config_of(scheduler: Any) -> dict[str, Any]:
    """A scheduler's configuration with the name of its class; a dictionary is taken as it is."""
    if isinstance(scheduler, dict):
        return dict(scheduler)
    entries = {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
    return {**entries, "_class_name": type(scheduler).__name__}


def reading_of(scheduler: Any) -> Parametrisation:
    """What the network of a scheduler, or of its configuration, predicts, and how it is conditioned on the noise level.

    Raises:
        CapabilityError: If it is not one of `TABLES`, `FLOWS`, `EDMS`, `SCORES` and `ANGLES`, or predicts
            something else.
        InputError: If its configuration lacks an entry.
    """
    config = config_of(scheduler)
    # Before diffusers 0.10 what is predicted was one of two.
    usual = "epsilon" if config.get("predict_epsilon", True) else "sample"
    kind, prediction = config.get("_class_name"), config.get("prediction_type", usual)
    unlike = config.get("sigma_data", 1.0) != 1 or config.get("prediction_type") == "epsilon"
    if kind in SCORES or (kind in ANGLES and not unlike):
        return Score() if kind in SCORES else Angle()
    if kind not in TABLES | FLOWS | EDMS | ANGLES:
        name = kind or "scheduler without a _class_name"
        raise CapabilityError(
            f"posteria cannot read a {name}: it reads schedulers with DDPM's noise table (such as "
            f"DDPMScheduler), EDM's, those of flow matching, "
            f"{', '.join(sorted(SCORES | ANGLES))}. {WAY_OUT}"
        )
    if config.get("timestep_type") == "continuous":
        if prediction == "v_prediction":
            # Its network sees sigma as EDM's do, and v is EDM's output for data of unit variance, with the other sign.
            return EDM(1.0, -1)
        raise CapabilityError(
            f"posteria cannot read a {kind} with timestep_type='continuous' that predicts {prediction!r}: diffusers "
            f"gives such a network the steps of a table, against its name. {WAY_OUT}"
        )
    reading = _reading(config, prediction)
    if reading is None:
        set_ = [key for key in ("use_flow_sigmas", "invert_sigmas") if config.get(key)]
        options = f" with {' and '.join(set_)}" if set_ else ""
        raise CapabilityError(
            f"posteria cannot read a {kind} that predicts {prediction!r}{options}. {WAY_OUT}"
        )
    return reading


def _reading(config: dict[str, Any], prediction: str) -> Parametrisation | None:
    kind, flow = config["_class_name"], bool(config.get("use_flow_sigmas"))
    if kind in ANGLES:
        return None
    if kind in EDMS:
        sign = {"epsilon": 1, "v_prediction": -1}.get(prediction)
        return None if sign is None else EDM(_number(config, "sigma_data"), sign)
    if kind in FLOWS or (flow and prediction == "flow_prediction"):
        steps = _number(config, "num_train_timesteps")
        return None if config.get("invert_sigmas") else FlowMatching(steps)
    if flow or prediction not in PREDICTIONS:
        return None
    return PREDICTIONS[prediction](_betas(config))


def _betas(config: dict[str, Any]) -> Betas:
    betas = _table(config)
    return zero_terminal_snr(betas) if config.get("rescale_betas_zero_snr") else betas


def _table(config: dict[str, Any]) -> Betas:
    given = config.get("trained_betas")
    if given is not None:
        numbers = isinstance(given, list | tuple) and all(
            isinstance(b, int | float) for b in given
        )
        require(numbers, f"trained_betas of this {config['_class_name']} is no list of numbers.")
        return GivenBetas(tuple(map(float, given)))
    curve, size = _entry(config, "beta_schedule"), int(_number(config, "num_train_timesteps"))
    if curve == "squaredcos_cap_v2":
        return CosineBetas(size)
    curves: dict[str, type[LinearBetas | ScaledLinearBetas]] = {
        "linear": LinearBetas,
        "scaled_linear": ScaledLinearBetas,
    }
    if curve in curves:
        return curves[curve](_number(config, "beta_start"), _number(config, "beta_end"), size)
    import diffusers

    try:
        betas = getattr(diffusers, config["_class_name"]).from_config(config).betas
    except (NotImplementedError, ValueError, TypeError) as error:
        raise CapabilityError(
            f"Neither posteria nor diffusers knows the noise table {curve!r} of this scheduler; posteria knows "
            "linear, scaled_linear, squaredcos_cap_v2 and trained_betas. Give the network its own: "
            "posteria.Network(module, space, Epsilon(GivenBetas(betas)))."
        ) from error
    return GivenBetas(tuple(betas.double().tolist()))


def _entry(config: dict[str, Any], key: str) -> Any:
    if config.get(key) is None:
        raise InputError(
            f"The configuration of this {config['_class_name']} has no {key}; save the scheduler again with "
            "diffusers, which writes every entry."
        )
    return config[key]


def _number(config: dict[str, Any], key: str) -> float:
    value = _entry(config, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise InputError(
            f"{key} of this {config['_class_name']} is a number, not negative; {value!r} is not."
        )
    return float(value)
