"""What is counted is what a network sees."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import posteria as po
from common.guidance.battery import SAMPLERS as TILTED, TARGET
from common.sampler import SMALL, TARGETS, takes
from helpers import F64, normal
from posteria.core.meter import Cost, Held, Meter, Watch
from posteria.diffusion import Network
from posteria.diffusion.parametrisation import X0
from posteria.runs.engine import Method, draw
from posteria.runs.store import Store
from posteria.target import metered
from posteria.testing import example_posterior


class Seen(torch.nn.Module):
    """A network that counts the rows it sees, and those of the gradients that come back."""

    def __init__(self, prior: po.Denoiser) -> None:
        super().__init__()
        self.prior, self.forwards, self.backwards = prior, 0, 0

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.forwards += len(x)
        x0 = self.prior(x, sigma)
        if x0.requires_grad:
            x0.register_hook(self._back)
        return x0

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def seen(prior: po.Denoiser) -> tuple[po.Denoiser, list[Seen]]:
    """The prior, or each member of a family, as a network that counts."""
    networks: list[Seen] = []

    def as_network(member: po.Denoiser) -> po.Denoiser:
        networks.append(Seen(member))
        return Network(networks[-1], member.space, X0())

    if not isinstance(prior, po.Family):
        return as_network(prior), networks
    members = {key: as_network(member) for key, member in prior.members.items()}
    return po.Family(as_network(prior.unconditional()), members), networks


CASES: dict[str, tuple[po.samplers.Sampler[Any], Any]] = {
    name: (sampler, next(target for target in TARGETS.values() if takes(name, target)))
    for name, sampler in SMALL.items()
} | {name: (sampler, TARGET) for name, sampler in TILTED.items()}


def test_every_sampler_is_a_case() -> None:
    # Catches: a sampler whose cost nobody compares with what its network saw.
    assert {type(sampler) for sampler, _ in CASES.values()} >= {*po.samplers.SAMPLERS.values()}


@pytest.mark.parametrize("name", CASES)
def test_a_run_counts_the_rows_that_a_network_sees(name: str, tmp_path: Path) -> None:
    # Catches: particles or corrections that count as one row, an evaluation past the meter, the scale of a
    # prior that is counted for every chunk or for none.
    sampler, target = CASES[name]
    if name.split()[0] in {"exact", "tempered"}:
        # So few particles and steps come near a measurement with much noise only.
        target = replace(target, likelihood=replace(target.likelihood, std=2.0))
    unit = sampler.shared
    seeds = [unit * number for number in range(5 if unit == 1 else 3)]
    meters = []
    for chunk in (5, 2):
        prior, networks = seen(target.prior)
        methods = {"it": Method(sampler, replace(target, prior=prior), seeds)}
        drawn = draw(methods, chunk * unit, Store(tmp_path / str(chunk)), lambda done, total: None)
        meter = drawn["it"].meter
        assert len(drawn["it"].parts) == -(-len(seeds) // chunk)
        assert meter.forward == sum(network.forwards for network in networks)
        assert meter.backward == sum(network.backwards for network in networks)
        meters.append((meter.forward, meter.backward))
    # AG saves evaluations of whole batches.
    if "ag" not in name.split():
        assert meters[0] == meters[1]


def test_memory_is_counted_whoever_holds_it() -> None:
    # Catches: views counted twice, what was there before, what a graph keeps left out, what is gone counted on.
    x = torch.zeros(1000, dtype=torch.float64, requires_grad=True)
    with (held := Held()):
        y = x.view(10, 100).exp()
        kept = y.view(-1).exp().sum()
        assert held.most == 16_008
        del y
    torch.autograd.grad(kept, x)
    with torch.no_grad(), (later := Held()):
        a = torch.zeros(1000)
        for _ in range(5):
            a = a + 1
    assert later.most == 8000


def test_the_scale_of_a_prior_is_counted_once() -> None:
    # Catches: a measured scale in the cost of every sample, or in that of none.
    # A new prior, whose scale nobody has measured yet.
    target, first = metered(example_posterior())
    sampler = SMALL["pigdm"]
    sampler.sample(target, range(3))
    later = replace(first)
    sampler.sample(target, range(3))
    again = first - later
    assert later.forward - again.forward == 23 * 32
    assert later.backward == again.backward


def test_totals_add_up_and_are_shared_out() -> None:
    # Catches: a total that forgets an attempt, memory that is added, a record that is not read back.
    one = Meter(10, 4, 6, 2, 1.5, 100.0)
    two = Meter(5, 0, 3, 0, 0.5, 300.0)
    both = one + two
    assert both == Meter(15, 4, 9, 2, 2.0, 300.0)
    assert both - one == Meter(5, 0, 3, 0, 0.5, 300.0)
    assert Meter(**json.loads(json.dumps(both.record()))) == both
    assert both.cost(4) == Cost(3.75, 1, 2.25, 0.5, 0.5, 300.0)
    assert isinstance(both.cost(4).backward, int)


def test_a_watch_adds_what_has_passed() -> None:
    # Catches: calls of an operator before the run, or of an earlier reading, that are counted again.
    operator = po.operators.Inpainting(torch.tensor([True, False]))
    x = normal(3, 2)
    operator(x)
    meter = Meter()
    with Watch(meter, 3, operator) as watch:
        operator.vjp(x)[1](x[:, :1])
        assert watch.read().operator == 6
        assert watch.read().operator == 6
        operator(x)
    assert meter.operator == 9 and meter.seconds > 0 and meter.memory > 1


@pytest.mark.parametrize(
    ("sampler", "seeds", "worked"),
    [
        (lambda: po.MGDM(), [3, 4], 2),
        (lambda: po.samplers.TDS(particles=4), [2, 3, 9], 8),
    ],
)
def test_samples_whose_work_is_done(
    sampler: Callable[[], po.samplers.Sampler[Any]], seeds: list[int], worked: int
) -> None:
    # Catches: the cost of a population that is shared among the samples that were asked for.
    assert sampler().worked(TARGETS["linear"], seeds) == worked


def test_populations_of_other_measurements_are_others() -> None:
    # Catches: seeds of one population that have measurements of their own, counted as one population.
    target = TARGETS["linear"]
    two = replace(target, y=torch.stack([target.y, target.y + 1]).to(F64))
    assert po.samplers.TDS(particles=4).worked(two, [0, 1]) == 8


def test_an_operator_that_is_decomposed_counts_as_itself() -> None:
    # Catches: the calls of the matrix that stands for an operator without a decomposition, counted by nobody.
    matrix, prior = (
        torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3]]),
        po.Gaussian(torch.zeros(3), torch.eye(3)),
    )
    operators = (
        po.operators.Matrix(matrix),
        po.operators.LinearFunction(lambda x: x @ matrix.mT.to(x), (3,)),
    )
    for sampler in (
        po.samplers.PiGDM(prior_std=1.0),
        po.samplers.DiffPIR(),
        po.samplers.DAPS(prior_std=1.0),
    ):
        runs = [
            sampler.with_steps(3).run(
                po.Posterior(prior, po.GaussianLikelihood(operator, 0.1), torch.ones(2)), 2
            )
            for operator in operators
        ]
        assert runs[0].cost.operator == runs[1].cost.operator > 0
