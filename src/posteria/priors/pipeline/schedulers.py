"""What a scheduler of diffusers says of its network: what it predicts, and how it is conditioned on the noise level."""

import math
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
from ...diffusion.parametrisation import (
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
    kind, prediction = str(config.get("_class_name", "")), _prediction(config)
    if kind not in TABLES | FLOWS | EDMS | SCORES | ANGLES:
        name = kind or "scheduler without a _class_name"
        raise CapabilityError(
            f"posteria cannot read a {name}: it reads schedulers with DDPM's noise table (such as "
            f"DDPMScheduler), EDM's, those of flow matching, "
            f"{', '.join(sorted(SCORES | ANGLES))}. {WAY_OUT}"
        )
    if kind in TABLES and config.get("timestep_type") == "continuous":
        if prediction == "v_prediction":
            # Its network sees sigma as EDM's do, and v is EDM's output for data of unit variance, with the other sign.
            return EDM(1.0, -1)
        raise CapabilityError(
            f"posteria cannot read a {kind} with timestep_type='continuous' that predicts {prediction!r}: diffusers "
            f"gives such a network the steps of a table, against its name. {WAY_OUT}"
        )
    reading = _reading(config, prediction)
    if reading is None:
        data = kind in ANGLES and config.get("sigma_data", 1) != 1
        set_ = [key for key in ("use_flow_sigmas", "invert_sigmas") if _switch(config, key)]
        set_ += [f"sigma_data={config['sigma_data']!r}"] if data else []
        options = f" with {' and '.join(set_)}" if set_ else ""
        raise CapabilityError(
            f"posteria cannot read a {kind} that predicts {prediction!r}{options}. {WAY_OUT}"
        )
    return reading


def _prediction(config: dict[str, Any]) -> str:
    """What is said to be predicted: before diffusers 0.10 one of two, by another entry."""
    old = _switch(config, "predict_epsilon", usual=True)
    said = config.get("prediction_type", "epsilon" if old else "sample")
    require(
        old or said == "sample",
        f"This {config.get('_class_name')} has predict_epsilon=false, by which its network predicts the clean signal, "
        f"and prediction_type={said!r}; keep the entry that is meant.",
    )
    return str(said)


def _reading(config: dict[str, Any], prediction: str) -> Parametrisation | None:
    kind, flow = config["_class_name"], _switch(config, "use_flow_sigmas")
    # An entry that a class does not have was meant for another one.
    alone = config.get("prediction_type")
    if kind in SCORES:
        return Score() if alone is None else None
    if kind in ANGLES:
        usual = alone in {None, "v_prediction"} and config.get("sigma_data", 1) == 1
        return Angle() if usual else None
    if kind in EDMS:
        if prediction not in {"epsilon", "v_prediction"}:
            return None
        return EDM(_number(config, "sigma_data"), 1 if prediction == "epsilon" else -1)
    if kind in FLOWS:
        flow, prediction = True, "flow_prediction" if alone is None else prediction
    if flow and prediction == "flow_prediction" and not _switch(config, "invert_sigmas"):
        return FlowMatching(float(_size(config)))
    if flow or prediction not in PREDICTIONS:
        return None
    return PREDICTIONS[prediction](_betas(config))


def _betas(config: dict[str, Any]) -> Betas:
    betas = _table(config)
    return zero_terminal_snr(betas) if _switch(config, "rescale_betas_zero_snr") else betas


def _table(config: dict[str, Any]) -> Betas:
    given, kind = config.get("trained_betas"), config["_class_name"]
    if given is not None:
        numbers = isinstance(given, list | tuple) and all(
            isinstance(b, int | float) and not isinstance(b, bool) for b in given
        )
        require(numbers, f"trained_betas of this {kind} is no list of numbers.")
        size = len(given) if config.get("num_train_timesteps") is None else _size(config)
        require(
            size == len(given),
            f"trained_betas of this {kind} has {len(given)} entries, and its num_train_timesteps is {size}.",
        )
        return GivenBetas(tuple(map(float, given)))
    curve, size = str(_entry(config, "beta_schedule")), _size(config)
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
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(
            f"{key} of this {config['_class_name']} is a number above 0; {value!r} is not."
        )
    return float(value)


def _size(config: dict[str, Any]) -> int:
    """The number of training steps."""
    size = _number(config, "num_train_timesteps")
    require(
        size.is_integer(),
        f"num_train_timesteps of this {config['_class_name']} is an integer; {size} is not.",
    )
    return int(size)


def _switch(config: dict[str, Any], key: str, usual: bool = False) -> bool:
    """Whether an entry is on; what is not there, or null, is as usual."""
    value = config.get(key)
    require(
        value is None or isinstance(value, bool),
        f"{key} of this {config.get('_class_name')} is true or false; {value!r} is not.",
    )
    return usual if value is None else bool(value)
