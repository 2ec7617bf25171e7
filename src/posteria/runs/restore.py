"""Restore a picture from a partial measurement: from a request to a folder of results."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import CapabilityError, InputError, expect
from ..core.rng import Rng
from ..diffusion.denoiser import Denoiser, Label
from ..likelihood import GaussianLikelihood
from ..operators import Inpainting, Operator
from ..priors import SHIPPED, load_prior, prior_sha256
from ..problems.image import TASKS, Options, build_operator
from ..samplers import PosteriorSampler, at_budget, choose, rebuild_sampler
from ..samplers.base import Sampler
from ..target import Posterior
from .engine import Chunk, chunks, device_of, draw
from .pictures import read_array, read_mask, read_picture
from .plan import Plan, choose_sampler, sha256
from .record import finished, read_record
from .results import Results, summarise
from .store import Store

ARRAYS = {".npy", ".npz"}
# The name under which the sampler is chosen by what is measured.
AUTO = "auto"


@dataclass(frozen=True)
class Request:
    """What a user asks for; see `posteria restore --help`."""

    input: Path | None = None
    input_kind: str | None = None
    task: str = "inpaint"
    mask: str | Tensor = "box"
    options: Options = field(default_factory=Options)
    sigma: float = 0.05
    prior: str = "digits"
    size: tuple[int, int] | None = None
    label: int | None = None
    sampler: str | Sampler[Any] = "mgdm"
    preset: str | None = None
    steps: int | None = None
    budget: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    samples: int = 8
    seed: int = 0
    data_seed: int | None = None
    chunk: int = 8
    fit: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Job:
    """A restoration that is ready to run: everything has been checked."""

    plan: Plan
    sampler: Sampler[Any]
    target: Posterior
    operator: Operator
    truth: Tensor | None
    why: str | None = None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the run was given, as it is kept beside its results."""
        kept = {"measurement": self.target.y.cpu().numpy()}
        if self.truth is not None:
            kept["truth"] = self.truth.cpu().numpy()
        if isinstance(self.operator, Inpainting):
            kept["mask"] = self.operator.mask.cpu().numpy()
        return kept


def prepare(request: Request) -> Job:
    """Check a request and load what it needs.

    Raises:
        PosteriaError: With a sentence on what is wrong and what to do.
    """
    if request.samples < 1 or request.chunk < 1:
        raise InputError("The numbers of samples and of samples in a chunk are at least 1.")
    if not 0 < request.sigma < float("inf"):
        raise InputError(
            f"--sigma is a noise level above 0 in data units (pictures span [-1, 1]); {request.sigma} is not."
        )
    if request.budget is not None and request.steps is not None:
        raise InputError("Give --steps or --budget, not both: a budget sets the steps.")
    sampler = request.sampler
    if isinstance(sampler, str) and sampler == AUTO:
        if request.preset or request.steps or request.settings:
            raise InputError(
                "--sampler auto chooses the settings as well; give it a --budget, or name a sampler."
            )
    elif isinstance(sampler, str):
        sampler = choose_sampler(sampler, request.preset, request.steps, request.settings)
    if request.task not in TASKS:
        build_operator(request.task, (1, 1, 1), request.options)
    device = device_of(request.device)
    prior = load_prior(request.prior, device=device, size=request.size)
    shape = _picture_shape(prior.space.shape, request.prior)
    data_seed = request.seed if request.data_seed is None else request.data_seed
    options, mask_sha256 = _with_mask(request, data_seed, shape)
    operator = build_operator(request.task, shape, options)
    likelihood = GaussianLikelihood(operator, std=request.sigma)
    given, kind, name = _given(request, shape)
    if kind == "clean":
        truth, y = given, likelihood.sample(given[None], Rng([data_seed], stream=1))[0]
    else:
        truth, y = None, _measured(given, operator, request)
    member: Denoiser = prior if request.label is None else prior.given(Label(request.label))
    target = Posterior(member, likelihood, y)
    sampler, why = _within(sampler, target, request)
    sampler.check(target, range(request.samples))
    Rng([request.seed, request.seed + request.samples - 1])
    plain = {k: v for k, v in dataclasses.asdict(options).items() if not isinstance(v, Tensor)}
    plan = Plan(
        input_sha256=sha256(np.ascontiguousarray(given.numpy()).tobytes()),
        input_kind=kind,
        input_name=name,
        task=request.task,
        options={k: v for k, v in plain.items() if k in TASKS[request.task].uses},
        mask_sha256=mask_sha256,
        sigma=request.sigma,
        data_seed=data_seed,
        prior=request.prior,
        prior_sha256=prior_sha256(request.prior),
        size=request.size,
        label=request.label,
        sampler=repr(sampler),
        seed=request.seed,
        samples=request.samples,
        chunk=min(request.chunk, request.samples),
        device=torch.device(device).type,
    )
    return Job(plan, sampler, target, operator, truth, why)


def _within(
    sampler: Sampler[Any] | str, target: Posterior, request: Request
) -> tuple[Sampler[Any], str | None]:
    """The sampler, with as many steps as the budget buys, and why it was chosen if it was."""
    if isinstance(sampler, str):
        choice = choose(target, 1000 if request.budget is None else request.budget)
        return choice.sampler, choice.why
    if request.budget is None:
        return sampler, None
    sampler.check(target, range(request.samples))
    return at_budget(
        expect(sampler, PosteriorSampler, by="--budget"), target, request.budget
    ), None


def _picture_shape(shape: tuple[int, ...], prior: str) -> tuple[int, int, int]:
    if len(shape) != 3 or shape[0] not in {1, 3}:
        raise CapabilityError(
            f"restore works on pictures; the prior {prior!r} draws events of shape {shape}."
        )
    return shape[0], shape[1], shape[2]


def _with_mask(
    request: Request, data_seed: int, shape: tuple[int, int, int]
) -> tuple[Options, str | None]:
    """The options with the mask that the request names; a name with a suffix is a file."""
    mask, options = request.mask, dataclasses.replace(request.options, seed=data_seed)
    if request.task != "inpaint" or (isinstance(mask, str) and not Path(mask).suffix):
        return dataclasses.replace(options, mask=mask), None
    if isinstance(mask, str):
        mask = read_mask(Path(mask), *shape[1:])
    return dataclasses.replace(options, mask=mask), sha256(mask.float().numpy().tobytes())


def _given(request: Request, shape: tuple[int, int, int]) -> tuple[Tensor, str, str]:
    """What the user gives, its kind, and its name."""
    path = request.input
    if path is None:
        if request.input_kind == "measurement":
            raise InputError("A measurement has to be given: name its file.")
        if request.prior not in SHIPPED:
            raise InputError(
                f"The prior {request.prior!r} ships with no picture; name a file to restore."
            )
        path = SHIPPED[request.prior].examples[0]
    array = path.suffix in ARRAYS
    kind = request.input_kind or ("measurement" if array else "clean")
    if kind not in {"clean", "measurement"}:
        raise InputError(f"--input-kind is 'clean' or 'measurement'; {kind!r} is neither.")
    if not array:
        return read_picture(path, shape, request.prior, request.fit), kind, path.name
    given = torch.from_numpy(
        read_array(path, "measurement" if kind == "measurement" else "truth")
    ).float()
    if kind == "clean":
        if tuple(given.shape) != shape:
            raise InputError(
                f"{path.name} has shape {tuple(given.shape)}; the prior {request.prior!r} takes {shape}."
            )
        if not given.isfinite().all():
            raise InputError(f"{path.name} holds values that are NaN or infinite.")
    return given, kind, path.name


def _measured(given: Tensor, operator: Operator, request: Request) -> Tensor:
    """The measurement itself; for inpainting, a picture with holes is one too."""
    if tuple(given.shape) == operator.codomain.shape:
        return given
    if isinstance(operator, Inpainting) and tuple(given.shape) == operator.domain.shape:
        return operator(given)
    name = "the file" if request.input is None else request.input.name
    raise InputError(
        f"The measurement in {name} has shape {tuple(given.shape)}; the task {request.task!r} on the prior "
        f"{request.prior!r} measures shape {operator.codomain.shape}."
    )


def run(job: Job, store: Store, advance: Callable[[int, int], None]) -> tuple[Results, bool]:
    """Draw the samples, or go on where an earlier attempt was killed, and write the results.

    Args:
        job: What to do.
        store: Where.
        advance: Called with the number of finished steps and that of all steps.

    Returns:
        The results, and whether they were there already.

    Raises:
        InputError: If the folder holds another run or other files.
        StoreError: If it cannot be written to.
    """

    def work() -> Results:
        store.write_arrays("input.npz", job.arrays)
        parts = chunks(job.sampler, job.plan.seeds, job.plan.chunk)
        steps = job.sampler.schedule.steps

        def step(part: Chunk, count: int) -> None:
            advance(part.index * steps + count, len(parts) * steps)

        samples, cost = draw(job.sampler, job.target, parts, store, step)
        return summarise(job, samples, cost, store)

    return finished(store, job.plan, Results.from_record, work)


def repeat(path: Path) -> Request:
    """The request that a `run.json` records; `input.npz` lies beside it.

    Raises:
        InputError: If it is no record of a run.
    """
    record = read_record(path)
    try:
        plan = Plan(**record["plan"])
    except (TypeError, KeyError) as error:
        raise InputError(f"{path} is not the record of a run.") from error
    if plan.prior_sha256 != prior_sha256(plan.prior):
        raise InputError(
            f"{path} was made with other weights than the prior {plan.prior!r} has now."
        )
    mask = plan.options.pop("mask", "box")
    kept = path.parent / "input.npz"
    if plan.mask_sha256 is not None:
        mask = torch.from_numpy(read_array(kept, "mask"))[0]
    return Request(
        input=kept,
        input_kind=plan.input_kind,
        task=plan.task,
        mask=mask,
        options=Options(**plan.options),
        sigma=plan.sigma,
        prior=plan.prior,
        size=None if plan.size is None else (plan.size[0], plan.size[1]),
        label=plan.label,
        sampler=rebuild_sampler(plan.sampler),
        samples=plan.samples,
        seed=plan.seed,
        data_seed=plan.data_seed,
        chunk=plan.chunk,
        device=plan.device,
    )
