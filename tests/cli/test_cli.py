"""`posteria restore`: what it writes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import posteria as po
from common.command import DIGIT, QUICK, SIMULATED, files, posteria
from posteria.diffusion.denoiser import Counted
from posteria.modalities import MODALITIES
from posteria.samplers import rebuild_sampler

OWN = ("--task", "inpaint", "--prior", "digits")


def test_restore_writes_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    words = ["restore", *SIMULATED, "--task", "inpaint", "--mask", "half", "--out", out, *QUICK]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    arrays = np.load(out / "samples.npz")
    assert arrays["samples"].shape == (3, 1, 28, 28)
    assert arrays["seeds"].tolist() == [0, 1, 2]
    assert arrays["measurement"].shape == (28 * 14,)
    assert np.allclose(arrays["mean"], arrays["samples"].mean(0), atol=1e-6)
    assert np.allclose(arrays["std"], arrays["samples"].std(0, ddof=1), atol=1e-5)
    # Catches: noise of another level, or drawn from the stream of the first sample.
    noise = (arrays["measurement"] - arrays["truth"][0, :, :14].flatten()) / 0.05
    assert abs(noise.std() - 1) < 0.15
    first = po.Rng([0]).normal(po.Space((28 * 14,)))[0].numpy()
    assert abs(np.corrcoef(noise, first)[0, 1]) < 0.2
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done"
    seen = arrays["samples"][:, 0, :, :14].reshape(3, -1)
    residual = np.sqrt((((arrays["measurement"] - seen) / 0.05) ** 2).mean(1))
    assert record["results"]["residual"] == pytest.approx(residual.tolist(), rel=1e-4)
    assert (record["results"]["cost"]["forward"], record["results"]["cost"]["backward"]) == (4, 3)
    for name in ("truth", "measurement", "mean", "std", "residual", "difference", "samples/2"):
        with Image.open(out / f"{name}.png") as image:
            image.verify()
    page = (out / "report.html").read_text()
    # Catches: a page that needs the network, or links what is not there.
    assert not re.search(r"src=.(?!data:)", page)
    assert all((out / name).is_file() for name in re.findall(r'href="([^"]*)"', page))
    printed = capsys.readouterr().out
    for words_of_table in ("residual / sigma", "PSNR", "SSIM", "4 + 3 vjps", "seconds", "MiB"):
        assert words_of_table in printed
    assert not (out / "chunks").exists() and not list(out.glob(".*"))

    before = files(out)
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    assert "finished before" in capsys.readouterr().out
    assert files(out) == before

    other = [*words[:-2], "--chunk", "3"]
    assert posteria(*other, monkeypatch=monkeypatch) == 1
    assert (
        "holds a run that draws 2 samples at once, and --chunk 3 cannot go on"
        in capsys.readouterr().err
    )
    assert files(out) == before

    again = tmp_path / "again"
    assert (
        posteria("restore", "--record", out / "run.json", "--out", again, monkeypatch=monkeypatch)
        == 0
    )
    assert np.array_equal(np.load(again / "samples.npz")["samples"], arrays["samples"])


def test_a_measurement_of_one_s_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.array(Image.open(DIGIT))
    picture[:, 14:] = 77
    mask = np.zeros((28, 28), dtype=np.uint8)
    mask[:, :14] = 255
    Image.fromarray(picture).save(tmp_path / "seen.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    holes = picture[None] / 127.5 - 1
    holes[..., 14:] = np.nan
    np.save(tmp_path / "seen.npy", holes)
    samples = []
    for i, source in enumerate(("seen.png", "seen.npy")):
        words = [
            tmp_path / source,
            "--mask",
            tmp_path / "mask.png",
            *OWN,
            "--out",
            tmp_path / str(i),
        ]
        assert posteria("restore", *words, *QUICK, monkeypatch=monkeypatch) == 0
        assert "PSNR" not in capsys.readouterr().out
        samples.append(np.load(tmp_path / str(i) / "samples.npz")["samples"])
    # What lies under the missing pixels, a colour or nan, changes nothing.
    assert np.allclose(samples[0], samples[1], atol=1e-4)
    again = ["restore", "--record", tmp_path / "0" / "run.json", "--out", tmp_path / "again"]
    assert posteria(*again, monkeypatch=monkeypatch) == 0
    assert np.array_equal(np.load(tmp_path / "again" / "samples.npz")["samples"], samples[0])


@pytest.mark.parametrize(
    "task",
    ["inpaint", "sr", "blur", "nonlinear-blur", "jpeg", "clip", "quantize", "phase", "denoise"],
)
def test_every_task_runs(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["restore", *SIMULATED, "--task", task, "--out", tmp_path / "run"]
    words += ["--sampler", "mgps", "--steps", 3, "--n", 1]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    assert (tmp_path / "run" / "report.html").exists()


def test_auto_says_which_sampler_and_why_and_keeps_to_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["restore", *SIMULATED, "--sampler", "auto", "--budget", 60, "--samples", 1]
    words += ["--task", "sr", "--out", tmp_path / "run"]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(r"Sampler: \w+: at \d+ evaluations its distance to the exact law", printed)
    cost = json.loads((tmp_path / "run" / "run.json").read_text())["results"]["cost"]
    assert 48 < cost["forward"] + cost["backward"] <= 60
    # The record repeats the run.
    again = ["restore", "--record", tmp_path / "run" / "run.json", "--out", tmp_path / "again"]
    assert posteria(*again, monkeypatch=monkeypatch) == 0
    first, second = (np.load(tmp_path / name / "samples.npz") for name in ("run", "again"))
    assert np.array_equal(first["samples"], second["samples"])


def test_a_population_is_drawn_once_and_its_cost_is_shared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a population simulated again for every chunk of its seeds.
    words = ["restore", *SIMULATED, "--task", "sr", "--sampler", "exact", "--set", "particles=4"]
    words += ["--set", "schedule=Karras(steps=6, sigma_max=80.0)", "--samples", 4, "--chunk", 2]
    words += ["--prior", "digits-mixture"]
    assert posteria(*words, "--out", tmp_path / "run", monkeypatch=monkeypatch) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    results, plan = record["results"], record["plan"]
    # What one population costs, the scale of a prior that nobody measured before included.
    prior, operator = (
        Counted(po.load_prior("digits-mixture")),
        po.operators.SuperResolution(4, (1, 28, 28)),
    )
    truth = MODALITIES["image"].read(DIGIT, (1, 28, 28), taker="it takes").x
    target = po.Posterior(prior, po.GaussianLikelihood(operator, std=0.05), operator(truth))
    rebuild_sampler(plan["sampler"]).sample(target, range(4))
    assert results["cost"]["forward"] * 4 == prior.meter.forward > 23 * 32
    assert results["cost"]["backward"] * 4 == prior.meter.backward
    assert results["shared"] == 4
    assert "a population of 4, which costs" in " ".join(capsys.readouterr().out.split())


def test_what_the_measurement_is_stands_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a damaged picture that is damaged once more, a clean one that is taken as the measurement.
    sentence = f"The measurement was simulated from {DIGIT.name}: denoise, with noise of standard deviation 0.3 in data"
    words = ["restore", *SIMULATED, "--task", "denoise", "--sigma", 0.3, *QUICK]
    assert posteria(*words, "--out", tmp_path / "a", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.startswith(sentence)
    assert sentence in (tmp_path / "a" / "report.html").read_text()
    words = [word for word in words if word != "--simulate"]
    assert posteria(*words, "--out", tmp_path / "b", monkeypatch=monkeypatch) == 0
    sentence = f"{DIGIT.name} is taken as the measurement: denoise, with noise of standard deviation 0.3 in data units"
    assert capsys.readouterr().out.startswith(sentence)
    page = (tmp_path / "b" / "report.html").read_text()
    assert page.index(sentence) < page.index("samples under") and "simulated" not in page
    # Without an input it is a demonstration, and that is said as well.
    assert posteria("restore", *QUICK, "--out", tmp_path / "c", monkeypatch=monkeypatch) == 0
    sentence = "A demonstration, since no INPUT was given: the measurement was simulated from"
    assert capsys.readouterr().out.startswith(sentence)
    assert sentence in (tmp_path / "c" / "report.html").read_text()


def test_white_is_the_hole_or_what_is_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a polarity that is not what was asked for, or that is kept although the mask in the record has its own.
    mask = Image.new("L", (28, 28), 255)
    mask.paste(0, (6, 8, 20, 18))
    mask.save(tmp_path / "black.png")
    mask.point(lambda level: 255 - level).save(tmp_path / "white.png")
    words = ["restore", DIGIT, *OWN, *QUICK, "--out", tmp_path / "run", "--mask"]
    assert posteria(*words, tmp_path / "black.png", monkeypatch=monkeypatch) == 0
    assert "Missing is what is black in black.png, 17.9 %" in capsys.readouterr().out
    # The same samples to the last bit, so that there is nothing to draw.
    white = [*words, tmp_path / "white.png", "--hole", "white"]
    assert posteria(*white, monkeypatch=monkeypatch) == 0
    assert "finished before" in capsys.readouterr().out
    again = ["--record", tmp_path / "run" / "run.json", "--out", tmp_path / "again"]
    assert posteria("restore", *again, monkeypatch=monkeypatch) == 0
    one, other = (np.load(tmp_path / name / "samples.npz") for name in ("run", "again"))
    assert np.array_equal(one["samples"], other["samples"])


def test_a_picture_s_own_hole_is_the_mask_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a hole of the input itself that the record does not know; other samples than those of its mask.
    picture, mask = Image.open(DIGIT).convert("L"), Image.new("L", (28, 28), 255)
    mask.paste(0, (6, 8, 20, 18))
    mask.save(tmp_path / "mask.png")
    Image.merge("LA", [picture, mask]).save(tmp_path / "own.png")
    picture.save(tmp_path / "whole.png")
    samples = []
    for name, more in (("own", []), ("whole", ["--mask", tmp_path / "mask.png"])):
        words = [tmp_path / f"{name}.png", *OWN, *more, *QUICK, "--out", tmp_path / name]
        again = ["--record", tmp_path / name / "run.json", "--out", tmp_path / f"{name}-again"]
        for given, folder in ((words, name), (again, f"{name}-again")):
            assert posteria("restore", *given, monkeypatch=monkeypatch) == 0
            samples.append(np.load(tmp_path / folder / "samples.npz")["samples"])
    assert all(np.array_equal(samples[0], each) for each in samples[1:])


def test_fit_takes_any_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.effect_noise((90, 50), 80).convert("RGBA").save(tmp_path / "any.png")
    words = [
        tmp_path / "any.png",
        *OWN,
        "--mask",
        "box",
        "--fit",
        "--out",
        tmp_path / "run",
        *QUICK,
    ]
    assert posteria("restore", *words, monkeypatch=monkeypatch) == 0


def test_another_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.effect_noise((36, 20), 80).save(tmp_path / "wide.png")
    words = [
        tmp_path / "wide.png",
        *OWN,
        "--mask",
        "box",
        "--size",
        "20x36",
        "--out",
        tmp_path / "run",
        *QUICK,
    ]
    assert posteria("restore", *words, monkeypatch=monkeypatch) == 0
    samples = np.load(tmp_path / "run" / "samples.npz")["samples"]
    assert samples.shape == (3, 1, 20, 36)
    again = ["--record", tmp_path / "run" / "run.json", "--out", tmp_path / "again"]
    assert posteria("restore", *again, monkeypatch=monkeypatch) == 0
    assert np.array_equal(np.load(tmp_path / "again" / "samples.npz")["samples"], samples)


def test_a_small_picture_is_measured_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a small picture that is enlarged or degraded before it is restored; grey levels taken for data units.
    small = np.random.default_rng(0).integers(1, 255, (14, 14)).astype("u1")
    Image.fromarray(small).save(tmp_path / "small.png")
    words = ["restore", tmp_path / "small.png", "--task", "sr", "--factor", 2, "--prior", "digits"]
    words += [*QUICK, "--sigma", "5/255", "--out", tmp_path / "run"]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    arrays = np.load(tmp_path / "run" / "samples.npz")
    assert np.array_equal(arrays["measurement"][0], small / np.float32(127.5) - 1)
    assert arrays["samples"].shape == (3, 1, 28, 28)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["plan"]["sigma"] == pytest.approx(10 / 255)
    assert "0.03922 in data units (5.0 grey levels of 255)" in capsys.readouterr().out


def test_the_noise_is_estimated_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: an estimate that is not what is sampled with, or not what is repeated.
    noise = np.random.default_rng(0).normal(128, 20, (28, 28)).round().astype("u1")
    Image.fromarray(noise).save(tmp_path / "noisy.png")
    words = ["restore", tmp_path / "noisy.png", "--task", "denoise", "--prior", "digits", *QUICK]
    words += ["--sigma", "auto", "--out", tmp_path / "run"]
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    sigma = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]["sigma"]
    # The root mean square of about 25 windows' noise.
    assert sigma == pytest.approx(40 / 255, rel=0.25)
    said = (
        f"{sigma:.4g} in data units ({127.5 * sigma:.1f} grey levels of 255), as estimated from it"
    )
    assert said in capsys.readouterr().out
    assert posteria(*words, monkeypatch=monkeypatch) == 0
    assert "finished before" in capsys.readouterr().out
    again = ["--record", tmp_path / "run" / "run.json", "--out", tmp_path / "again"]
    assert posteria("restore", *again, monkeypatch=monkeypatch) == 0
    one, other = (np.load(tmp_path / name / "samples.npz") for name in ("run", "again"))
    assert np.array_equal(one["samples"], other["samples"])


def test_a_grey_file_is_whitened_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Catches: a level or noise that is added again where a run goes on or is repeated, a level that nobody gave.
    noise = np.random.default_rng(0).normal(128, 20, (12, 12)).round().astype("u1")
    Image.fromarray(noise).save(tmp_path / "grey.png")
    words = ["restore", tmp_path / "grey.png", "--task", "denoise", "--sigma", "20/255"]
    words += ["--sampler", "ddrm", "--steps", "2", "--samples"]
    assert posteria(*words, 1, "--out", tmp_path / "run", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    assert "0.1569 in data units (20.0 grey levels of 255)" in said and "1.73 times" in said
    assert posteria(*words, 2, "--out", tmp_path / "run", monkeypatch=monkeypatch) == 0
    again = ["--record", tmp_path / "run" / "run.json", "--out", tmp_path / "again"]
    assert posteria("restore", *again, monkeypatch=monkeypatch) == 0
    for name in ("run", "again"):
        record = json.loads((tmp_path / name / "run.json").read_text())
        assert record["plan"]["sigma"] == pytest.approx(3**0.5 * 40 / 255)
    one, other = (np.load(tmp_path / name / "samples.npz") for name in ("run", "again"))
    assert np.array_equal(one["samples"], other["samples"])
    assert np.array_equal(one["measurement"], other["measurement"])
    assert one["measurement"].mean(0) == pytest.approx(noise / 127.5 - 1, abs=1e-6)
