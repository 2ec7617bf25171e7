"""What rounded and clipped measurements say, and what samplers make of it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import posteria as po
from helpers import F64, normal
from posteria.guidance.base import StepInfo
from posteria.operators import (
    JPEG,
    Blur,
    Clip,
    Function,
    Matrix,
    Quantization,
    SuperResolution,
    gaussian_kernel,
)
from posteria.operators.cells import truncated


@pytest.mark.parametrize("quality", [8, 60])
@pytest.mark.parametrize("shape", [(3, 64, 48), (3, 50, 41), (1, 37, 32)])
def test_a_picture_lies_in_the_cells_of_its_file(shape: tuple[int, ...], quality: int) -> None:
    # Catches: tables of another plane, blocks in another order, a level shift that is forgotten, colours that are not
    # averaged, blocks cut by the border that are trusted.
    smooth = torch.nn.functional.avg_pool2d(normal(1, *shape[:1], 80, 80, seed=1), 5, 1, 2)[0]
    x = (1.5 * smooth[:, : shape[1], : shape[2]]).clamp(-0.9, 0.9)
    levels = ((x + 1) * 127.5).round().byte()
    picture = Image.fromarray((levels[0] if shape[0] == 1 else levels.permute(1, 2, 0)).numpy())
    picture.save(file := io.BytesIO(), "JPEG", quality=quality, subsampling=2)
    read = torch.from_numpy(np.array(Image.open(file))).reshape(*shape[1:], shape[0])
    y = read.permute(2, 0, 1).double() / 127.5 - 1
    cells = JPEG(quality, shape).rounded(y, 1 / 255)
    off = (cells.operator(levels.double() / 127.5 - 1) - cells.centre).abs()
    # libjpeg smooths between blocks of colours, and rounds pixels to whole numbers.
    share = (off <= cells.width / 2 + 3 * cells.noise).double().mean()
    assert share > 0.985 and (off / cells.std).square().mean().sqrt() < 1.05
    # Cells of half the width, or half a step aside, are missed.
    coarse = cells.width > 20 * cells.noise
    assert (off > cells.width / 8)[coarse].double().mean() > 0.02


@pytest.mark.parametrize("shape", [(3, 16, 32), (1, 16, 16)])
def test_noise_of_each_pixel_is_that_of_the_coefficients_of_its_block(
    shape: tuple[int, ...],
) -> None:
    # Catches: the mean level of noise that differs from pixel to pixel, colours whose averaging is forgotten.
    jpeg, std = (
        JPEG(50, shape),
        0.01 + 0.1 * torch.rand(shape, generator=torch.Generator().manual_seed(1)),
    )
    cells = jpeg.rounded(torch.zeros(shape).double(), std)
    each = torch.eye(std.numel(), dtype=torch.float64).reshape(-1, *shape)
    matrix = cells.operator(each)
    assert torch.allclose(cells.noise**2, (matrix**2 * std.double().reshape(-1, 1) ** 2).sum(0))


def test_the_misfit_of_a_signal_that_may_be_anywhere_in_its_cell_is_1() -> None:
    # Catches: a width for a half-width, noise of another unit.
    x = torch.rand(400, 200, generator=torch.Generator().manual_seed(0)).double() * 1.6 - 0.8
    for operator, std, most in (
        (Quantization(4, (200,)), 1e-3, 0.02),
        (Clip((200,), 2.0), 0.02, 0.2),
    ):
        likelihood = po.GaussianLikelihood(operator, std)
        y = (15 * (x + 1) / 2).round() / 7.5 - 1 if isinstance(operator, Quantization) else None
        y = likelihood.sample(x, po.Rng(range(400))) if y is None else y
        assert likelihood.misfit(y, x).square().mean().sqrt() == pytest.approx(1, abs=most)
        assert likelihood.misfit(y, x + 0.5).square().mean().sqrt() > 2


def test_what_is_rounded_may_be_measured_by_another_operator_before() -> None:
    # Catches: a composition that rounds and does not say so: its derivative is that of rounding, 0 at what is measured,
    # and mmps drew 19 times as widely as the posterior, and wider than the prior.
    shape = (1, 8, 8)
    blur, small = Blur(gaussian_kernel(5, 1.0), shape), SuperResolution(2, shape)
    y = 0.1 * normal(1, 4, 4)
    for both in (JPEG(60, (1, 4, 4)) @ (small @ blur), (JPEG(60, (1, 4, 4)) @ small) @ blur):
        cells, alone = both.rounded(y, 0.01), JPEG(60, (1, 4, 4)).rounded(y, 0.01)
        assert cells is not None and torch.equal(cells.centre, alone.centre)
        assert torch.allclose(
            cells.operator.matrix(), alone.operator.matrix() @ (small @ blur).matrix(), atol=1e-5
        )
    # The ends of the range of what is clipped are those of pictures, and not of what another operator gives.
    assert (Clip((1, 4, 4)) @ small).rounded(y, 0.01) is None
    assert (Quantization(4, (16,)) @ Function(torch.sin, (16,))).rounded(y.flatten(), 0.01) is None
    i = torch.arange(16, dtype=F64)
    law = po.Gaussian(0 * i, 0.2 * torch.exp(-((i[:, None] - i) ** 2) / 8) + 0.01 * torch.eye(16))
    averages = Matrix(torch.eye(8, dtype=F64).repeat_interleave(2, 1) / 2)
    rounded = po.GaussianLikelihood(Quantization(4, (8,)) @ averages, 0.02)
    y = rounded.sample(law.sample(1, torch.Generator().manual_seed(1)), po.Rng([0], stream=1))[0]
    exact = law.posterior(po.GaussianLikelihood(averages, (4 / 15**2 / 12 + 0.02**2) ** 0.5), y)
    x = po.MMPS().with_steps(12).sample(po.Posterior(law, rounded, y), 200)
    assert (x.std(0) / exact.std - 1).abs().max() < 0.35
    assert ((x.mean(0) - exact.mean) / exact.std).abs().max() < 0.5


def test_truncated_normal_numbers() -> None:
    # Catches: tails that cancel, a cell below the mean that is not mirrored, a narrow cell, one that is no cell.
    sides = [
        (-1.0, 1),
        (0, 3),
        (5, 6),
        (-6, -5.9),
        (-40, 40),
        (2, 2.0001),
        (100, 100.02),
        (-3, 50),
    ]
    low, high = torch.tensor(sides).double().T
    mean, lost = truncated(low, high)
    at = low[:, None] + (high - low)[:, None] * (torch.arange(200_000).double() + 0.5) / 200_000
    law = torch.softmax(-(at**2) / 2, 1)
    exact = (law * at).sum(1)
    assert torch.allclose(mean, exact, atol=1e-6)
    assert torch.allclose(
        1 - lost, (law * (at - exact[:, None]) ** 2).sum(1), rtol=1e-3, atol=1e-8
    )


@pytest.mark.parametrize("sigma", [30.0, 0.7, 0.01])
@pytest.mark.parametrize("std", [1e-4, 0.2])
def test_moment_matching_has_the_mean_given_the_cells_of_entries(std: float, sigma: float) -> None:
    # Catches: a mean that is drawn to the middles of cells, noise that is forgotten, a probe with an entry's own scale.
    # Independent entries: E[x_0 | x, y] is that of a normal number whose sum with noise is in a cell.
    variances = torch.tensor([1.0, 0.3, 2.0, 0.1]).double()
    prior = po.Gaussian(torch.zeros(4).double(), torch.diag(variances))
    y = torch.tensor([-1.0, -1 / 3, 1 / 3, 1 / 3]).double()
    target = po.Posterior(prior, po.GaussianLikelihood(Quantization(2, (4,)), std), y)
    # About the upper sides of the cells.
    x = y + 1 / 3 + sigma * normal(3, 4, seed=2).double()
    rule = po.guidance.likelihood.MMPS(iterations=4, tolerance=1e-12)
    info = StepInfo.of((sigma, 0.0), sigma)
    found = rule(rule.arrange(target), x, info, {}).x0
    left = variances * sigma**2 / (variances + sigma**2)
    mean = x * variances / (variances + sigma**2)
    grid = mean[..., None] + left.sqrt()[:, None] * torch.linspace(-9, 9, 200_001).double()
    low, high = ((y + side / 3)[:, None] for side in (-1, 1))
    tail = torch.special.log_ndtr
    # From the side that is near, so that no tail is lost in 1.
    ends = [torch.where(grid < (low + high) / 2, -1, 1) * (z - grid) / std for z in (low, high)]
    inside = (tail(ends[0]).exp() - tail(ends[1]).exp()).abs()
    law = inside * torch.exp(-((grid - mean[..., None]) ** 2) / 2 / left[:, None])
    exact = (law * grid).sum(-1) / law.sum(-1)
    assert torch.allclose(found, exact, atol=1e-4 * max(1.0, float(exact.abs().max())))


def test_moment_matching_draws_from_the_law_of_a_cell() -> None:
    # Catches: the Gaussian that has the variance of the cell, which leaves the cell and is too sure of its middle;
    # calls of a stand-in that are nobody's, so that a run costs nothing; a probe that is not counted.
    prior = po.Gaussian(torch.zeros(8), 0.04 * torch.eye(8))
    y = torch.full((8,), 1 / 3).double()
    target = po.Posterior(prior, po.GaussianLikelihood(Quantization(2, (8,)), 1e-3), y)
    run = po.MMPS(iterations=1).with_steps(60).run(target, 100)
    drawn = run.x.flatten().double().sort().values
    levels = (torch.arange(800).double() + 0.5) / 800
    # Nearly all of the prior is below the cell, so its law falls from its lower side.
    below = torch.special.ndtr(torch.tensor([0.0, 2 / 3]).double() / 0.2)
    exact = 0.2 * torch.special.ndtri(below[0] + levels * (below[1] - below[0]))
    assert (drawn - exact).abs().mean() < 0.022
    gaussian = 0.04 / (0.04 + 1 / 27) / 3 + torch.special.ndtri(levels) * (1 / (25 + 27)) ** 0.5
    assert (gaussian - exact).abs().mean() > 0.03
    assert run.cost.operator > 0 and run.cost.forward == 60 and run.cost.backward == 2 * 60


def test_the_cells_of_a_clipping() -> None:
    # Catches: another level that is taken for the end of a picture's range, so that what was clipped counts as seen.
    assert Clip((3,), 2.0, level=0.5).rounded(torch.tensor([0.5, 0.2, -0.5]), 0.01) is None
    clipped = Clip((3,), 2.0).rounded(torch.tensor([0.5, 1.0, -0.99]), 0.01)
    assert clipped is not None
    assert clipped.centre.tolist() == pytest.approx([0.25, 0.7425, -0.7425])
    assert clipped.width.tolist() == pytest.approx([0, 0.515, 0.515])


def test_diffpir_goes_to_the_nearest_of_the_cell() -> None:
    # Catches: an estimate within its cell that is moved, one outside that goes to the middle.
    x, y = torch.tensor([0.1, 0.9, -2.0]).double(), torch.tensor([1 / 3, 1 / 3, -1.0]).double()
    cells = Quantization(2, (3,)).rounded(y, 1e-6)
    assert cells.nearest(x, 0.5).tolist() == pytest.approx([0.1, 2 / 3, -4 / 3])
    noisy = Quantization(2, (3,)).rounded(y, 0.5)
    assert noisy.nearest(x, 0.25).tolist() == pytest.approx([
        0.1,
        0.9 - 0.5 * (0.9 - 2 / 3),
        -2 + 1 / 3,
    ])
    assert Clip((3,), 0.5).rounded(y, 0.1) is None
