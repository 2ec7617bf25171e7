"""Large pictures: what is said before a run, what is refused, and windows that bound what derivatives keep."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image

import posteria as po
from common.models.unets import save, tiny
from common.stems import song, white
from posteria.core.space import few
from posteria.diffusion.scale import known_of
from posteria.priors.local import BiasFree, LocalUNet, Windowed, windows
from posteria.runs import forecast
from posteria.runs.job import read_record, run
from posteria.runs.jobs.generate import prepare as prepare_draws
from posteria.runs.jobs.restore import Restoration, prepare
from posteria.runs.request import Generate, Restore
from posteria.runs.store import Store


def job(folder: Path, side: int, sampler: str = "daps") -> Restoration:
    Image.new("RGB", (side, side), "grey").save(folder / "a.png")
    path = str(folder / "a.png")
    return prepare(
        Restore(input=path, task="denoise", prior="photo-bf", sampler=sampler, steps=3, samples=5)
    )


def test_a_large_picture_is_drawn_one_by_one_and_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: eight pictures of 12 megapixels at once; seconds of one sample for all; vjps that cost nothing.
    calls = list[bool]()
    monkeypatch.setattr(forecast, "_once", lambda net, x, level, pull: calls.append(pull))
    clock = iter(range(1000))
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: float(next(clock)))
    assert job(tmp_path, 64).forecast() is None and not calls
    large = job(tmp_path, 1024)
    assert large.request.chunk == 1 and job(tmp_path, 64).request.chunk is None
    told, evaluations = (
        large.forecast(),
        large.methods["samples"].sampler.evaluations(large.target),
    )
    # A window takes a second: four of them, each with a halo within the picture.
    each = ((1024 + 40) / 512) ** 2
    assert told is not None and told.startswith(
        f"5 samples of 1024 x 1024 pixels, {evaluations} evaluations each: about "
    )
    assert (
        f"(one took {each:.2g} s)" in told and told.endswith("GiB of memory.") and not any(calls)
    )
    assert "(one took 4.3 s)" in (job(tmp_path, 1024, "dps").forecast() or "") and calls[-1]
    monkeypatch.setattr(forecast, "memory_of", lambda device: 500.0)
    with pytest.raises(
        po.InputError, match=r"need about 0\.9 GiB of memory, and there are 0\.5; draw fewer"
    ):
        large.forecast()


@pytest.mark.filterwarnings("ignore")
def test_any_prior_is_told_before_and_drawn_as_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a prior of which nothing is said, memory that does not grow with the samples at once, a number that the
    # record does not have or a run that goes on forgets.
    prior = str(save(tmp_path / "net", tiny(), DDPMScheduler()))
    request = Generate(prior=prior, steps=3, samples=40, chunk="auto")
    drawn = prepare_draws(request)
    said = list[str]()
    Image.new("RGB", (8, 8), "grey").save(tmp_path / "a.png")
    run(drawn, Store(tmp_path / "run"), announce=said.append)
    assert said[0].startswith("40 samples of 3 x 8 x 8, 6 evaluations each: about ")
    assert read_record(Store(tmp_path / "run"), "run.json", Generate)[1].chunk == 40
    takes = [forecast.probed(drawn.methods["unconditional"], n).takes for n in (1, 2, 4)]
    assert takes[2] - takes[1] == pytest.approx(2 * (takes[1] - takes[0]), rel=0.1)
    # What is measured of a prior is measured, and counted, by the run.
    restored = prepare(
        Restore(
            input=str(tmp_path / "a.png"),
            task="denoise",
            prior=prior,
            sampler="pigdm",
            steps=3,
            sigma=0.1,
        )
    )
    known = known_of(restored.target.prior)
    assert "evaluations each: about" in str(restored.forecast()) and "scale" not in known
    small = drawn.methods["unconditional"]
    room = (forecast._weights(small) + 5.5 * takes[1]) / forecast.ROOM / 2**20
    monkeypatch.setattr(forecast, "memory_of", lambda device: room)
    assert drawn.fitting() in {10, 11}
    with pytest.raises(po.InputError, match="16 of 40 samples of 3 x 8 x 8 at once need about"):
        prepare_draws(replace(request, chunk=16)).forecast()
    # The number of the first attempt stays.
    _, before = run(prepare_draws(request), Store(tmp_path / "run"))
    assert before


@pytest.mark.parametrize(
    "net", [BiasFree(4, 8), LocalUNet(3, (8, 8, 8), (1, 1, 1))], ids=["bias-free", "unet"]
)
def test_what_derivatives_keep_is_bounded(
    net: BiasFree | LocalUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a batch of pictures smaller than a window that is kept whole; channels that are mixed up.
    net = net.double().requires_grad_(False)
    rng = torch.Generator().manual_seed(0)
    x, v = (torch.randn(3, 3, 40, 48, generator=rng).double() for _ in range(2))
    time = torch.tensor([-0.5, 0.0, 0.5]).double()

    def both() -> tuple[torch.Tensor, torch.Tensor, int]:
        z, sizes = x.clone().requires_grad_(), list[int]()
        hook = net.register_forward_pre_hook(lambda net, given: sizes.append(given[0].numel()))
        value = Windowed(net, 64)(z, time)
        slope = torch.autograd.grad(value, z, v)[0]
        hook.remove()
        return value.detach(), slope, max(sizes)

    value, slope, whole = both()
    monkeypatch.setattr(windows, "KEPT", 40 * 48 * net.footprint)
    again, own, part = both()
    assert part == whole // (9 if net.apart else 3)
    assert torch.allclose(again, value, rtol=0, atol=1e-12)
    assert torch.allclose(own, slope, rtol=0, atol=1e-12)


def test_windows_of_derivatives_are_as_wide_as_memory_allows() -> None:
    for net in (BiasFree(), LocalUNet()):
        own = Windowed(net)
        side = own.wide((5000, 4000))
        assert own.side == 512 and side % net.stride == 0
        assert (side + 4 * own.halo) ** 2 * net.lean <= windows.KEPT
        assert side >= 128
        # A side that was given to take less memory is one of derivatives, too.
        given = Windowed(net, 64)
        assert given.wide((5000, 4000)) == 64 and given.wide((450, 400)) == 64
        assert own.wide((450, 400)) == 450 and own.read((450, 400), True) == 450 * 400


def test_blocks_are_computed_again_to_the_bit_and_keep_as_much_as_is_said() -> None:
    # Catches: a level that is not handed on, a block whose inner numbers are kept, a bound of memory that is not one.
    torch.manual_seed(0)
    net = LocalUNet(widths=(16, 24, 32)).requires_grad_(False)
    for weight in net.parameters():
        weight.normal_(std=0.05)
    x, time = torch.randn(1, 3, 128, 128), torch.tensor([0.3])

    def kept(again: bool) -> tuple[int, torch.Tensor]:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        z = x.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            value = net(z, time, again)
        weights = sum(weight.numel() for weight in net.parameters())
        return sum(sizes.values()) - weights, torch.autograd.grad(value.square().sum(), z)[0]

    (most, whole), (least, slope) = kept(False), kept(True)
    assert torch.equal(whole, slope)
    assert 0.5 * net.footprint < most / 128**2 < 1.2 * net.footprint
    assert least / 128**2 < net.lean < net.footprint / 2


def test_groups_of_samples_are_small() -> None:
    x = torch.arange(10.0)[:, None].expand(10, 2**20)
    assert [len(part) for part in few(x)] == [4, 4, 2]
    assert torch.equal(torch.cat(few(x[:, :1])), x[:, :1])


def test_a_small_recording_whose_solves_are_slow_is_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a long room whose conjugate gradients take a quarter of an hour a sample, without a word.
    prior = str(white(tmp_path / "white"))
    song(tmp_path / "song.wav")
    room = np.random.default_rng(0).standard_normal(5000) * np.exp(-np.arange(5000) / 200)
    np.save(tmp_path / "room.npy", room)

    def told(task: str, **options: str) -> str | None:
        path = str(tmp_path / "song.wav")
        request = Restore(
            input=path, task=task, prior=prior, sampler="daps", samples=2, steps=5, options=options
        )
        return prepare(request).forecast()

    kernel = str(tmp_path / "room.npy")
    assert told("reverb", kernel=kernel) is None
    monkeypatch.setattr(forecast, "LONG", 1e-3)
    assert "2 samples of 500 steps, 5 evaluations each: about" in str(
        told("reverb", kernel=kernel)
    )
    assert told("separate") is None
