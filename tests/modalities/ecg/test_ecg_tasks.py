"""What is measured of an ECG: operators, the law of coloured noise, and a posterior that is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch

import posteria as po
from common.ecgs import all_twelve, eight, times, write_arrays, write_record
from posteria.analytic import Gaussian
from posteria.likelihood import GaussianLikelihood
from posteria.modalities import MODALITIES, Source
from posteria.modalities.ecg.coloured import (
    Coloured,
    cosine,
    cosine_inverse,
    estimate_noise,
    power,
    stretches,
)
from posteria.modalities.ecg.leads import EIGHT, TWELVE, twelve
from posteria.modalities.ecg.tasks import seen_by
from posteria.testing import check_operator

ECG = MODALITIES["ecg"]
SHAPE = (8, 12)


def operator(task: str, shape: tuple[int, ...] = SHAPE, **options: Any) -> po.operators.Operator:
    return ECG.degradation(task, shape, options).operator


BATTERY: dict[str, tuple[str, dict[str, Any]]] = {
    "two": ("leads", {"keep": "I,II"}),
    "derived": ("leads", {"keep": "III,aVF,V2"}),
    "block": ("gap", {"seconds": 0.04}),
    "each": ("gap", {"mask": "each", "seconds": 0.05, "keep": "aVR,II,V1"}),
    "random": ("gap", {"mask": "random", "share": 0.4}),
    "noise": ("noise", {"wander": 3.0, "muscle": 1.5}),
    "bedside": ("bedside", {"mask": "each", "seconds": 0.04, "wander": 2.0}),
    "bedside of derived": ("bedside", {"keep": "III,aVL", "seconds": 0.03, "wander": 1.0}),
    "clip": ("clip", {"limit": 0.3, "keep": "II,V1"}),
}


@pytest.mark.parametrize(("task", "options"), BATTERY.values(), ids=BATTERY)
def test_operators_keep_their_contract(task: str, options: dict[str, Any]) -> None:
    check_operator(operator(task, **options))


@pytest.mark.parametrize("n", [1, 2, 7, 16])
def test_the_cosine_transform_is_the_orthonormal_one(n: int) -> None:
    x = torch.from_numpy(np.random.default_rng(n).normal(size=(3, n)))
    expected = torch.from_numpy(scipy.fft.dct(x.numpy(), norm="ortho"))
    assert torch.allclose(cosine(x), expected, atol=1e-12)
    assert torch.allclose(cosine_inverse(expected), x, atol=1e-12)


def test_the_noise_has_the_covariance_that_is_stated() -> None:
    # Catches: a spectrum of another shape or level, noise that goes on through a gap, a whitening of the wrong side.
    wander, muscle, n = 3.0, 1.5, 20
    seen = torch.ones(8, n, dtype=torch.bool)
    seen[0, 7:10] = False
    seen[1:] = False
    made = Coloured(seen, lambda k: power(k, 100.0, wander, muscle)).to(torch.float64, "cpu")
    assert stretches(seen[0]) == [(0, 7), (10, 20)] and made.codomain.size == 17
    blocks = []
    for k in (7, 10):
        f = np.arange(k) * 100 / (2 * k)
        with np.errstate(divide="ignore"):
            low, high = 1 / (1 + (f / 0.5) ** 4), 1 / (1 + (20 / f) ** 4)
        p = 1 + wander**2 * low / low.mean() + muscle**2 * high / high.mean()
        assert p.mean() == pytest.approx(1 + wander**2 + muscle**2)
        turn = scipy.fft.dct(np.eye(k), axis=0, norm="ortho")
        blocks.append(torch.from_numpy(turn.T @ np.diag(p) @ turn))
    covariance = torch.block_diag(*blocks)
    # Values of a measurement that is white noise have it: values = L z, with L L^T the covariance.
    root = made.values(torch.eye(17, dtype=torch.float64)).mT
    assert torch.allclose(root @ root.mT, covariance, atol=1e-10)
    # The measurement is the whitened signal.
    x = torch.randn(8, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(made.values(made(x)), x[seen], atol=1e-10)
    assert torch.allclose(made(x), made.whitened(x[seen]), atol=1e-10)


@pytest.mark.parametrize("keep", ["I,II,V5", "III,aVF,V2", "aVR,V6", "V1"])
def test_what_is_known_of_all_leads(keep: str) -> None:
    # Catches: a derived lead that counts as missing though two limb leads are there, or as known by one of them.
    options = {"keep": keep, "mask": "each", "seconds": 0.04, "seed": 3, "wander": 2.0}
    a = operator("bedside", **options).to(torch.float64, "cpu")
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    seen, every = seen_by(a), twelve() @ x
    values, known = seen.all_known(a(x)), seen.known()
    assert torch.equal(known, ~values.isnan())
    assert torch.allclose(values[known], every[known], atol=1e-9)
    leads = keep.split(",")
    limbs = [lead for lead in leads if not lead.startswith("V")]
    both = seen.mask[: len(limbs)].all(0) if len(limbs) == 2 else torch.zeros(12, dtype=torch.bool)
    for i, lead in enumerate(TWELVE):
        own = seen.mask[leads.index(lead)] if lead in leads else torch.zeros(12, dtype=torch.bool)
        assert torch.equal(known[i], own | both if i < 6 else own)
    assert torch.allclose(seen.measurement(torch.where(seen.mask, seen.values(a(x)), 0.0)), a(x))


def test_masks_are_where_they_say() -> None:
    # Catches: a block of another length, blocks that are the same in all leads where they are to differ, or vary
    # with anything but the seed.
    block = seen_by(operator("gap", (8, 500), seconds=1.5)).mask
    assert (~block).sum(1).tolist() == [150] * 8 and (block == block[:1]).all()
    each = seen_by(operator("gap", (8, 500), mask="each", seconds=1.5)).mask
    assert (~each).sum(1).tolist() == [150] * 8 and not (each == each[:1]).all()
    random = seen_by(operator("gap", (8, 500), mask="random", share=0.3)).mask
    assert int(random.sum()) == 1200
    again, other = (
        seen_by(operator("gap", (8, 500), mask="each", seconds=1.5, seed=s)).mask for s in (0, 1)
    )
    assert torch.equal(again, each) and not torch.equal(other, each)


def correlated(shape: tuple[int, ...]) -> Gaussian:
    """Leads that are mixed, smooth in time."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(shape[0], shape[0])) / 3
    gaps = np.subtract.outer(np.arange(shape[1]), np.arange(shape[1]))
    covariance = np.kron(mix @ mix.T + 0.05 * np.eye(shape[0]), np.exp(-0.5 * (gaps / 2) ** 2))
    mean = torch.from_numpy(0.1 * rng.normal(size=shape))
    return Gaussian(mean, torch.from_numpy(covariance + 1e-4 * np.eye(len(covariance))))


@pytest.mark.parametrize("keep", ["I,II", "III,aVR,V3"])
def test_a_gaussian_prior_has_its_known_posterior_by_way_of_a_file(
    keep: str, tmp_path: Path
) -> None:
    # Catches: leads in another order than the prior's, a sign of Einthoven, volts, noise of another level: by the
    # mean and variance that linear algebra gives, and samples against both.
    prior, std, leads = correlated((8, 10)), 0.2, keep.split(",")
    rows = {"I": (1, 0), "II": (0, 1), "III": (-1, 1), "aVR": (-0.5, -0.5)}
    a = np.zeros((len(leads), 8))
    for i, lead in enumerate(leads):
        a[i, :2] = rows.get(lead, (0, 0))
        if lead not in rows:
            a[i, EIGHT.index(lead)] = 1
    rng = np.random.default_rng(1)
    x = prior.sample(1, torch.Generator().manual_seed(2))[0].numpy()
    y = a @ x + std * rng.normal(size=(len(leads), 10))
    path = write_arrays(tmp_path / "rec.npz", x=1e3 * y.T, leads=leads, units="uV")
    source = Source(path)
    degradation = ECG.degradation("leads", (8, 10), {}, source=source)
    signal = ECG.read_measurement(path, degradation, taker="it measures", std=std)
    # Linear algebra on Einthoven's relations as they stand above.
    big, c = np.kron(a, np.eye(10)), prior.covariance.numpy()
    gain = c @ big.T @ np.linalg.inv(big @ c @ big.T + std**2 * np.eye(len(big)))
    mean = prior.mean.numpy().ravel() + gain @ (y.ravel() - big @ prior.mean.numpy().ravel())
    variance = np.diag(c - gain @ big @ c)
    likelihood = GaussianLikelihood(degradation.operator.to(torch.float64, "cpu"), std)
    posterior = prior.posterior(likelihood, signal.x.double())
    assert np.allclose(posterior.mean.numpy().ravel(), mean, atol=1e-5)
    assert np.allclose(posterior.std.numpy().ravel() ** 2, variance, atol=1e-6)
    # MMPS with enough iterations is exact on a Gaussian, up to the steps of its solver.
    sampler = po.MMPS(iterations=30, schedule=po.Karras(steps=60))
    drawn = sampler.sample(po.Posterior(prior, likelihood, signal.x.double()), seeds=400)
    off = (drawn.mean(0).numpy().ravel() - mean) / np.sqrt(variance)
    # 80 entries: the largest of as many standard normals over 20 is below 0.2 but for one run in a hundred.
    assert np.abs(off).max() < 0.22
    ratio = drawn.var(0).numpy().ravel() / variance
    assert abs(ratio.mean() - 1) < 0.06 and ratio.min() > 0.7 and ratio.max() < 1.35


def test_a_whole_record_at_the_bedside_is_measured_as_a_whole(tmp_path: Path) -> None:
    # Catches: a block of the default mask that is taken out of a file in which nothing is missing.
    source = Source(write_record(tmp_path, rate=100))
    made = ECG.degradation("bedside", (8, 400), {"wander": 2.0}, source=source)
    assert made.options["mask"] == "none" and made.operator.codomain.size == 8 * 400
    asked = ECG.degradation("bedside", (8, 400), {"mask": "block"}, source=source)
    assert asked.operator.codomain.size == 8 * 150


def test_leads_that_follow_are_no_measurements(tmp_path: Path) -> None:
    # Catches: III, computed by the machine from I and II, that counts as a third measurement with noise of its own.
    path = write_record(tmp_path, rate=100)
    source = Source(path)
    for task in ("leads", "noise"):
        degradation = ECG.degradation(task, (8, 400), {}, source=source)
        assert degradation.options["keep"] == ",".join(EIGHT)
        signal = ECG.read_measurement(path, degradation, taker="", std=0.05)
        assert torch.allclose(
            signal.x.reshape(8, 400).double(),
            torch.from_numpy(all_twelve(times(100)))[[0, 1, *range(6, 12)]],
            atol=1e-3,
        )
        assert any("III, aVR, aVL, aVF follow from the other limb leads" in s for s in signal.said)
    degradation = ECG.degradation("leads", (8, 400), {"keep": "aVF, iii"}, source=source)
    assert degradation.options["keep"] == "III,aVF"
    signal = ECG.read_measurement(path, degradation, taker="", std=0.05)
    assert torch.allclose(
        signal.x.reshape(2, 400).double(),
        torch.from_numpy(all_twelve(times(100)))[[2, 5]],
        atol=1e-3,
    )


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "lead": ("leads", {"keep": "I,VII"}, "There is no lead 'VII'"),
    "twice": ("leads", {"keep": "I,DI"}, "The lead I is named twice"),
    "none": ("leads", {"keep": ","}, "',' names no lead; name some"),
    "not a number": (
        "gap",
        {"seconds": "nan"},
        "seconds takes a finite number, such as 2.5; not nan",
    ),
    "mask": ("gap", {"mask": "blocks"}, "Did you mean 'block'"),
    "half": (
        "gap",
        {"mask": torch.full((8, 12), 0.5)},
        r"\(8, 12\) or \(12,\); this one has shape",
    ),
    "sides": ("gap", {"mask": np.ones((3, 12))}, r"this one has shape \(3, 12\), or other values"),
    "long": ("gap", {"seconds": 1.0}, r"less than the 0\.12 seconds of the signal; 1 is not"),
    "share": ("gap", {"mask": "random", "share": 0.0}, "above 0 and at most 1; 0 is not"),
    "other": ("gap", {"share": 0.5, "seconds": 1.0}, "makes nothing of it"),
    "noise": ("noise", {"wander": -1.0}, "at least 0 times the white one; -1 and 0 are not"),
    "random": ("bedside", {"mask": "random", "wander": 1.0}, "of unbroken stretches"),
    "limit": ("clip", {"limit": 0.0}, "level of a clipping is above 0; 0.0 is not"),
}


@pytest.mark.parametrize(("task", "options", "sentence"), WRONG.values(), ids=WRONG)
def test_options_that_mean_nothing_are_one_sentence(
    task: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(po.InputError, match=sentence):
        operator(task, **options)
    with pytest.raises(
        po.InputError, match=r"8 leads in time, \(8, time\); this prior has \(12, 50\)"
    ):
        operator("leads", (12, 50))


@pytest.mark.parametrize("std", [0.02, 0.05, 0.2])
def test_the_white_noise_of_leads_is_estimated(std: float) -> None:
    # Catches: a scale of differences that is not that of noise; gaps that count; a QRS complex taken for noise.
    t = times(100, 20)
    x = torch.from_numpy(eight(t))
    x += 1.2 * torch.from_numpy(np.exp(-0.5 * ((t % 0.8 - 0.4) / 0.012) ** 2))
    x += std * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    # One standard error of the median of 16000 dependent differences is about 1.5 %.
    assert estimate_noise(x) == pytest.approx(std, rel=0.12)
    degradation = ECG.degradation("gap", (8, 2000), {"mask": "block", "seconds": 6.0})
    y = degradation.operator(x.float())
    assert ECG.estimated(y, degradation) == pytest.approx(std, rel=0.12)
    assert estimate_noise(torch.zeros(8, 400)) == pytest.approx(0.005)
    with pytest.raises(po.InputError, match="Too little of the ECG is seen"):
        estimate_noise(x[:1, :100])


def test_a_mask_from_a_file(tmp_path: Path) -> None:
    mask = np.ones((2, 400))
    mask[1, 50:90] = 0
    np.save(tmp_path / "mask.npy", mask)
    source = Source(write_record(tmp_path, rate=100))
    options = {"keep": "II,V1", "mask": str(tmp_path / "mask.npy")}
    made = ECG.degradation("gap", (8, 400), options, source=source)
    seen = seen_by(made.operator)
    assert seen.leads == ["II", "V1"] and torch.equal(seen.mask, torch.from_numpy(mask).bool())
    assert made.said[-1] == "Missing is what mask.npy lacks: 5.0 % of II, V1."
    with pytest.raises(
        po.InputError, match=r"has shape \(2, 400\); it holds 1 where I, II, V1 are seen"
    ):
        ECG.degradation("gap", (8, 400), {**options, "keep": "I,II,V1"}, source=source)
    np.save(tmp_path / "mask.npy", 0.5 * mask)
    with pytest.raises(po.InputError, match=r"mask\.npy has other values than 0 and 1"):
        ECG.degradation("gap", (8, 400), options, source=source)
    with pytest.raises(
        po.InputError, match=r"rec\.hea lacks nothing: no NaN, and no lead that is flat"
    ):
        ECG.degradation("gap", (8, 400), {}, source=source)
