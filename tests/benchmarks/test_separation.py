"""The study of separation: its songs, its baselines, and samplers on stems of known spectra."""

import pytest
import torch

from data.songs import BARS, RATE, SIXTEENTH, STEMS, Song
from helpers import normal
from lib.stems import factors, gaussian_stems, masked, stft
from music import STD, against_wiener, gains, samplers, scores, target_of
from posteria.samplers.budget import at_budget


def test_posterior_of_stems_of_known_spectra_is_wieners_filter() -> None:
    # Catches: a covariance that is not that of the spectra, noise of the sum that is left out.
    law = gaussian_stems()
    truth = law.sample(1, torch.Generator().manual_seed(0))[0]
    target = target_of(law, truth, 0)
    exact = law.posterior(target.likelihood, target.y)
    wave = torch.fft.fft(torch.eye(truth.shape[1], dtype=torch.complex128), norm="ortho")
    blocks = law.covariance.reshape(4, 32, 4, 32)
    spectra = torch.stack([
        (wave @ blocks[k, :, k].to(wave) @ wave.mT.conj()).diagonal().real for k in range(4)
    ])
    wiener = spectra * torch.fft.fft(target.y[0]) / (spectra.sum(0) + STD**2)
    assert torch.allclose(torch.fft.ifft(wiener).real, exact.mean, atol=1e-10)


# Error of the mean of 64 exact draws: 0.125 standard deviations.
@pytest.mark.parametrize(
    ("name", "error", "low"), [("daps", 0.17, 0.9), ("mmps", 0.17, 0.9), ("msdm", 0.3, 0.8)]
)
@pytest.mark.filterwarnings("ignore:The measurement has noise:RuntimeWarning")
def test_samplers_against_wiener(name: str, error: float, low: float) -> None:
    # Catches: a sum whose decomposition is of another scale, a sampler that knows stems apart by their order.
    law = gaussian_stems()
    sampler = at_budget(samplers()[name], target_of(law, law.mean, 0), 200)
    found = against_wiener(sampler, 64, 0)
    assert found["mean_error"] < error
    assert low < found["variance_ratio"] < 1.2
    assert found["residual"] < (1e-9 if name == "msdm" else 2)


def test_masks_share_the_mixture_and_improvements_are_in_decibels() -> None:
    # Catches: a window that does not add up to 1, an improvement over the stem in place of the mixture.
    truth = normal(4, 8192, seed=1).float()
    stems = masked(truth.sum(0), stft(truth).abs().square())
    assert torch.allclose(stems.sum(0), truth.sum(0), atol=1e-4)
    # Of four stems of one power the mixture has 1 / 3 of a stem's power in each; a tenth of it is left.
    near = truth + 0.1**0.5 * (truth.sum(0) - truth)
    assert all(abs(value - 10) < 0.4 for value in gains(near[None], truth).values())


def test_samples_of_the_law_of_the_truth_are_covered_and_spread_as_it_is() -> None:
    # Catches: energies of the whole excerpt, a spread that forgets the error of a mean of three.
    laws = normal(4, 4, 30 * RATE, seed=3).float()
    found = scores(laws[1:], laws[0])
    assert abs(found["covered"] - 0.5) < 0.14
    assert abs(found["spread"] - 1) < 0.02


def test_factors_find_what_was_made_of_factors() -> None:
    # Catches: a step of h that uses the w of the step before, columns that are not normalised.
    w, h = (
        torch.rand(12, 2, generator=torch.Generator().manual_seed(0)),
        normal(2, 40).abs().float(),
    )
    v = w / w.sum(0) @ h
    _, found = factors(v, w / w.sum(0), 300, learn=False)
    assert torch.allclose(found, h, atol=5e-2)


def test_a_song_is_its_seed_and_its_notes_are_of_its_chords() -> None:
    # Catches: a draw that is not the song's own, a bass that leaves the chord, a rest that is played.
    for seed in range(40):
        song = Song(seed)
        assert song.notes == Song(seed).notes
        for stem in STEMS:
            for start, pitch, velocity, _ in song.notes[stem]:
                assert (
                    0 <= pitch < 128 and 0 < velocity < 128 and start < (BARS + 1) * 16 * SIXTEENTH
                )
                # A note may begin a little before its bar.
                assert not song.rests[stem][
                    min(start + SIXTEENTH // 2, BARS * 16 * SIXTEENTH - 1) // (64 * SIXTEENTH)
                ]
        for start, pitch, *_ in song.notes["piano"]:
            chord = song.chords[(start + SIXTEENTH // 2) // (16 * SIXTEENTH)]
            assert pitch % 12 in {tone % 12 for tone in (*chord, chord[0] + 7)}
