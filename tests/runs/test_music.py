"""Songs through the whole path, with stems whose law is known: what comes out is the exact posterior."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import posteria as po
from common.command import files, posteria
from common.stems import GAIN, NAMES, RATE, STD, song, white
from posteria.diffusion.reading import noise_left
from posteria.modalities.audio import Audio
from posteria.priors.local import Windowed
from posteria.runs.jobs.restore import prepare
from posteria.runs.request import Restore

F64 = torch.float64
T = 48


def spectra() -> Tensor:
    """The power of each of four stationary stems that wrap around, by frequency, `[4, T // 2 + 1]`."""
    k = torch.arange(T // 2 + 1, dtype=F64)
    return torch.stack([
        3 / (1 + (k - f).square() / width) + 0.01
        for f, width in ((1, 2), (18, 90), (6, 4), (10, 9))
    ])


def stems() -> po.Gaussian:
    """The law of these stems; their convolutions as matrices."""
    lines = torch.fft.irfft(spectra().to(torch.complex128), n=T)
    circulants = [torch.stack([line.roll(t) for t in range(T)]) for line in lines]
    return po.Gaussian(torch.zeros(4, T, dtype=F64), torch.block_diag(*circulants))


def wiener(y: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """Mean `[4, T]` and variance `[4]` of stems given their sum: the Wiener filter."""
    power = spectra()
    total = power.sum(0) + std**2
    mean = torch.fft.irfft(power / total * torch.fft.rfft(y), n=T)
    twice = torch.full((T // 2 + 1,), 2.0, dtype=F64)
    twice[[0, -1]] = 1
    return mean, ((power - power.square() / total) * twice).sum(-1) / T


def posterior(task: str = "separate", **options: object) -> po.Posterior:
    operator = Audio(RATE, GAIN).degradation(task, (4, T), options).operator
    likelihood = po.GaussianLikelihood(operator, std=0.1)
    truth = stems().sample(1, torch.Generator().manual_seed(0))
    return po.Posterior(
        stems(), likelihood, likelihood.to(F64, "cpu").sample(truth, po.Rng([0], stream=1))[0]
    )


def test_the_posterior_of_stationary_stems_is_the_wiener_filter() -> None:
    # Catches: a sum that is a mean, noise of another level, stems in another order.
    target = posterior()
    exact = stems().posterior(target.likelihood, target.y)
    mean, variance = wiener(target.y[0], 0.1)
    assert torch.allclose(exact.mean, mean, atol=1e-10)
    assert torch.allclose(exact.std.square(), variance[:, None].expand(4, T), atol=1e-10)


@pytest.mark.parametrize(
    "task, options",
    [
        ("separate", {}),
        ("gap", {"gap": "0.01-0.02"}),
        ("bandwidth", {"cutoff": "200"}),
        ("reverb", {"kernel": torch.tensor([1.0, 0.0, 0.6, -0.3], dtype=F64)}),
    ],
)
def test_samples_of_stems_have_the_exact_mean_and_variance(
    task: str, options: dict[str, object]
) -> None:
    # Catches: a solve after the sum that is not that of the whole operator; a sampler that treats stems alike.
    target, n = posterior(task, **options), 400
    exact = stems().posterior(target.likelihood, target.y)
    x = po.MMPS().with_steps(40).sample(target, seeds=n)
    # The mean of the squared error of a mean over n, in units of what exact samples have.
    error = ((x.mean(0) - exact.mean) / exact.std).square().mean() * n
    assert error < 2
    ratio = x.var(0) / exact.std.square()
    assert ratio.mean() == pytest.approx(1, abs=0.05) and ratio.std() < 2 * (2 / n) ** 0.5


QUICK = ["--sampler", "mmps", "--steps", "60", "--chunk", "16"]


def test_a_song_from_the_command_line_is_separated_as_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Catches: a loudness, a gain or a noise level that is not the one of the law; files that are missing or extra.
    prior, path, out = white(tmp_path / "white"), tmp_path / "song.wav", tmp_path / "run"
    x = song(path, seconds=0.4)[:, 0]
    words = ["restore", path, "--prior", prior, "--task", "separate", *QUICK, "--samples", 8]
    assert posteria(*words, "--out", out, monkeypatch=monkeypatch) == 0, capsys.readouterr()
    said = capsys.readouterr().out
    assert (
        "song.wav is taken as the measurement: separate" in said and "-60 dB of full scale" in said
    )
    arrays = np.load(out / "samples.npz")
    y, samples = GAIN * x, arrays["samples"]
    share = STD**2 / (4 * STD**2 + 0.01**2)
    error = samples.mean(0) - share * y
    exact = STD * (1 - share) ** 0.5
    assert np.square(error).mean() * 8 == pytest.approx(exact**2, rel=0.15)
    assert samples.var(0, ddof=1).mean() == pytest.approx(exact**2, rel=0.05)
    assert arrays["measurement"][0] == pytest.approx(y, abs=1e-5)
    written = set(files(out))
    each = {f"{i}{s}" for i in range(8) for s in (".png", *(f"-{n}.wav" for n in NAMES))}
    mean = {f"mean-{name}.wav" for name in NAMES}
    assert written == {
        *(f"samples/{name}" for name in each),
        *(f"restored/{i}-{n}.wav" for i in range(8) for n in NAMES),
        *(f"restored/{name}" for name in mean),
        *mean,
        *("mean.png", "measurement.png", "measurement.wav", "std.png", "levels.svg"),
        *("samples.npz", "input.npz", "run.json", "report.html"),
    }
    stem, rate = soundfile.read(out / "restored" / "5-drums.wav")
    assert rate == RATE and stem == pytest.approx(samples[5, 1] / GAIN, abs=2**-15)
    page = (out / "report.html").read_text()
    assert "media-src data:" in page and page.count("<audio ") == 1 + 4 * 9
    assert "data:audio/flac;base64," in page and "http" not in page.replace(
        "http-equiv", ""
    ).replace("http://www.w3.org/2000/svg", "")
    assert json.loads((out / "run.json").read_text())["plan"]["options"] == {
        "stereo": "mid",
        "scale": 1.0,
    }


def test_a_folder_of_stems_is_one_clean_song(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Catches: stems that are restored one by one; a truth that is not what came in.
    prior, folder, out = white(tmp_path / "white"), tmp_path / "song", tmp_path / "run"
    folder.mkdir()
    x = np.stack([
        song(folder / f"{name}.wav", seconds=0.3, seed=i)[:, 0] for i, name in enumerate(NAMES)
    ])
    words = [
        "restore",
        folder,
        "--simulate",
        "--prior",
        prior,
        "--task",
        "gap",
        "--gap",
        "0.1-0.15",
        *QUICK,
        "--samples",
        3,
    ]
    assert posteria(*words, "--out", out, monkeypatch=monkeypatch) == 0, capsys.readouterr()
    arrays = np.load(out / "samples.npz")
    assert arrays["truth"] == pytest.approx(GAIN * x, abs=1e-5)
    assert arrays["measurement"].shape == (250,)
    results = json.loads((out / "run.json").read_text())["results"]
    best = po.metrics.si_sdr(
        torch.from_numpy(arrays["mean"])[None], torch.from_numpy(arrays["truth"])
    )
    assert results["metrics_mean"]["si_sdr"] == pytest.approx(float(best), abs=1e-4)
    assert "mean-all.wav" in files(out) and "truth-piano.wav" in files(out)
    assert not (out / "restored").exists()
    # The same without --simulate names several inputs, or a task that they cannot have.
    again = ["restore", "--record", out / "run.json", "--out", tmp_path / "again"]
    assert posteria(*again, monkeypatch=monkeypatch) == 0
    assert np.array_equal(
        np.load(tmp_path / "again" / "samples.npz")["samples"], arrays["samples"]
    )


def test_a_prior_of_songs_demonstrates_itself_with_the_song_that_comes_with_it(
    tmp_path: Path,
) -> None:
    # Catches: a demonstration that looks for pictures, or for a task of pictures; noise of their level.
    prior = white(tmp_path / "white")
    (prior / "examples").mkdir()
    song(prior / "examples" / "0-song.flac", 4, 0.2)
    job = prepare(Restore(prior=str(prior), sampler="daps"))
    assert (job.title, job.std) == ("separate of 0-song.flac", 0.01)
    assert job.truth is not None and job.truth.shape == (4, 200)


def test_an_hour_is_told_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Catches: an hour that is read and drawn before anyone knows how long it takes.
    prior, path = white(tmp_path / "white"), tmp_path / "hour.wav"
    song(path, seconds=3600)
    monkeypatch.setattr("posteria.runs.settings.memory_of", lambda device: 100)
    request = Restore(
        prior=str(prior), input=str(path), task="separate", sampler="mmps", samples=2
    )
    with pytest.raises(po.InputError, match=r"1 sample of shape \(4, 3600000\) needs about"):
        prepare(request)
    monkeypatch.undo()
    # Nor does the look at whether a network of one's own denoises take an hour.
    longest = []
    seen = Windowed.forward
    monkeypatch.setattr(
        Windowed,
        "forward",
        lambda self, x, time: (longest.append(x.shape[-1]), seen(self, x, time))[1],
    )
    job = prepare(request)
    assert noise_left(job.target.prior.base) is not None and max(longest) < 100
    said = job.forecast()
    assert job.request.chunk == 1 and said is not None
    assert said.startswith("2 samples of 3600000 steps") and "GiB of memory" in said
