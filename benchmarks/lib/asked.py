"""The targets of speed: start-up, one sample, memory, and what particles cost beside the network."""

import gc
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

import posteria as po
from posteria.core.linalg import LinearMap
from posteria.diffusion.denoiser import Around
from posteria.problems.toy import gmm25

# What a child does before its memory is looked at, with the steps of the paper's code.
BEFORE = """
import torch
torch.set_num_threads(1)
import posteria as po
prior = po.load_prior("satellite")
space, mask = prior.space, po.operators.box_mask(*prior.space.shape[-2:])
operator = po.operators.Inpainting(mask, prior.space.shape)
target = po.Posterior(prior, po.GaussianLikelihood(operator, 0.05), torch.zeros(operator.codomain.shape))
sampler = po.DPS(schedule=po.schedules.Table(steps=3))
def official():
    x = torch.randn(8, *space.shape)
    for sigma in (10.0, 1.0):
        x = x.detach().requires_grad_()
        x0 = prior(x, sigma)
        norm = torch.linalg.norm(target.y - operator(x0))
        x = x0.detach() + 0.1 * torch.randn_like(x) - torch.autograd.grad(norm, x)[0]
with torch.no_grad():
    prior(torch.zeros(1, *space.shape), 1.0)
def peak():
    # Of a child, what resource says begins with the memory of its parent.
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
open("/proc/self/clear_refs", "w").write("5")
before = peak()
"""
AFTER = "\nprint(peak() - before)"


class Timed(Around):
    """A prior with the CPU seconds that are spent in it."""

    seconds = 0.0

    def _spent(self, f: Callable[..., Any], *given: Any) -> Any:
        start = time.process_time()
        found = f(*given)
        self.seconds += time.process_time() - start
        return found

    @override
    def around(self, member: po.Denoiser) -> "Timed":
        return Timed(member)

    @override
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return self._spent(self.prior, x, sigma)

    @override
    def vjp(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, LinearMap]:
        x0, pullback = self._spent(self.prior.vjp, x, sigma)
        return x0, lambda v: self._spent(pullback, v)


def outside(sampler: po.samplers.Sampler[Any], rounds: int) -> float:
    """The share of a population's CPU seconds outside the prior, with 16 of 80 numbers measured."""
    target, shares = gmm25(80, 16, seed=0).target, []
    for _ in range(rounds + 1):
        prior = Timed(target.prior)
        start = time.process_time()
        sampler.sample(po.Posterior(prior, target.likelihood, target.y), 1)
        shares.append(1 - prior.seconds / (time.process_time() - start))
    return statistics.median(shares[1:])


def child(*words: str) -> float:
    """CPU seconds of Python with these words."""
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime


def grown(what: str) -> int:
    """By how many KiB the memory of a child grows."""
    command = [sys.executable, "-W", "ignore", "-c", BEFORE + what + AFTER]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def asked(alternate: Callable[..., dict[str, list[float]]], rounds: int) -> list[list[str]]:
    """Rows of what, its target, and what is measured; `alternate` times functions in turn."""
    prior, few = po.load_prior("satellite"), min(rounds, 3)
    shape = prior.space.shape
    operator = po.operators.Inpainting(po.operators.box_mask(*shape[-2:]), shape)
    y = torch.zeros(operator.codomain.shape)
    target = po.Posterior(prior, po.GaussianLikelihood(operator, 0.05), y)
    pigdm = po.samplers.SAMPLERS["pigdm"](schedule=po.schedules.Table(steps=20))

    def network() -> None:
        for sigma in pigdm.levels[:-1]:
            x0, pullback = prior.vjp_once(prior.space.zeros(1), sigma)
            pullback(x0)

    times = alternate({"ours": lambda: pigdm.sample(target, 1), "network": network}, rounds)
    gc.collect()
    one = statistics.median(a / b for a, b in zip(times["ours"], times["network"], strict=True))
    torch_alone = [child("-c", "import torch") for _ in range(few)]
    package = [child("-c", "import torch, posteria") for _ in range(few)]
    beyond = statistics.median(b - a for a, b in zip(torch_alone, package, strict=True))
    usage = statistics.median(child("-m", "posteria", "--help") for _ in range(few))
    with tempfile.TemporaryDirectory() as folder:
        words = ["--samples", "1", "--steps", "5", "--out", folder, "--quiet"]
        restore = child("-m", "posteria", "restore", *words)
    memory = grown("sampler.sample(target, 8)") / grown("official()")
    levels = po.schedules.LogLinear(steps=30, sigma_max=3000.0)
    shares = ", ".join(
        f"{outside(kind(schedule=levels, particles=512), few):.2f}"
        for kind in (po.Exact, po.samplers.Tempered)
    )
    starts = f"{usage:.2f}, {beyond:.2f}, {restore:.2f}"
    return [
        ["PiGDM, one sample, 20 steps, over the network", "1.1", f"{one:.2f}"],
        ["CPU s of `--help`, `import posteria` beyond torch, `restore`", ".3, .15, 5", starts],
        ["DPS, batch 8: memory over that of the paper's code", "1.0", f"{memory:.2f}"],
        ["share of `exact`, `tempered` outside the prior, m = 16, P = 512", ".3", shares],
    ]


def lowest(cells: Sequence[Any], task: str, method: str, libraries: Sequence[str]) -> str:
    """The least ratio among cells whose task and method begin so."""
    found = [
        cell.ratios[name]
        for cell in cells
        for name in libraries
        if cell.task.startswith(task) and cell.method.startswith(method) and name in cell.ratios
    ]
    return "{:.2f} ± {:.2f}".format(*min(found))
