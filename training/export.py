"""Ship a trained prior: `python training/export.py satellite --data DIR --run DIR --out DIR --how "..."`.

Writes a diffusers folder (half precision), held-out pictures, and the numbers of its page.
"""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import EDMEulerScheduler
from safetensors.torch import save_file
from torch import Tensor

import posteria as po
from classifier import section
from data.pictures import DATA, Pictures
from posteria.diffusion.scale import prior_scale
from posteria.metrics.distribution import sliced_wasserstein
from posteria.modalities.image.pixels import grid, png, to_bytes
from shipping import averaged, command, read_log, write_hash, write_page
from train import RECIPES, Recipe, build

# Held-out pictures that ship as inputs to try, and the names of their files.
EXAMPLES = {
    "digits": {
        "test03149": "label3",
        "test08025": "label8",
        "test05147": "label5",
        "test02125": "label2",
        "test04161": "label4",
        "test06039": "label6",
    },
    "satellite": {
        "River0107": "river",
        "AnnualCrop0112": "fields",
        "Residential0171": "houses",
        "Industrial0154": "industry",
        "Highway0082": "highway",
        "Pasture0119": "pasture",
    },
}
# Priors whose samples a classifier judges: as many of each class.
JUDGED = ("satellite",)
SAMPLER = po.Unconditional(solver=po.Heun(), schedule=po.Karras(steps=32, sigma_min=0.005))


def write_model(recipe: Recipe, pictures: Pictures, run: Path, out: Path) -> str:
    """Write network, scheduler and the hash into `card.toml`; returns the SHA-256 of the weights."""
    net = build(recipe, pictures.train[0])
    net.load_state_dict(averaged(run))
    net.half().save_pretrained(out / "unet")
    EDMEulerScheduler(sigma_data=recipe.sigma_data).save_pretrained(out / "scheduler")
    extra = {"patch": recipe.patch, "null_label": recipe.labels or None}
    (out / "posteria.json").write_text(json.dumps(extra, indent=2) + "\n")
    return write_hash(out / "unet" / "diffusion_pytorch_model.safetensors", out)


def write_examples(name: str, pictures: Pictures, out: Path) -> None:
    """Write the held-out pictures that ship."""
    (out / "examples").mkdir(parents=True, exist_ok=True)
    for i, (source, file) in enumerate(EXAMPLES[name].items()):
        picture = pictures.test[pictures.test_names.index(source)]
        (out / "examples" / f"{i}-{file}.png").write_bytes(png(to_bytes(picture)))


def write_scale(out: Path) -> None:
    """Write the mean and spread of the prior and its members beside the card."""
    (out / "scale.safetensors").unlink(missing_ok=True)
    prior = po.load_prior(str(out))
    members = [prior, *(prior.given(po.Label(k)) for k in range(prior.labels))]
    scales = [prior_scale(member) for member in members]
    content = {
        "mean": torch.stack([scale.mean for scale in scales]),
        "std": torch.tensor([scale.std for scale in scales]),
    }
    save_file(content, out / "scale.safetensors")


def nearest(x: Tensor, among: Tensor) -> Tensor:
    """Root mean square distance of each picture to the nearest of others."""
    parts = torch.split(x.flatten(1), 64)
    rows = [torch.cdist(part, among.flatten(1)).amin(1) for part in parts]
    return torch.cat(rows) / math.sqrt(x[0].numel())


def numbers(
    options: argparse.Namespace, recipe: Recipe, pictures: Pictures, samples: Tensor
) -> tuple[dict[str, str], str]:
    """What the page says: how it was made, and the scores of samples."""
    last = read_log(options.run)[-1]
    n = min(len(samples), len(pictures.test), len(pictures.train))
    order, test_order = (
        torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:n]
        for seed, x in enumerate((pictures.train, pictures.test))
    )
    held_out = pictures.test[test_order]
    found = {"samples": samples[:n], "training pictures": pictures.train[order]}
    scores = {key: sliced_wasserstein(x, held_out, directions=1000) for key, x in found.items()}
    ours, theirs = nearest(samples[:n], pictures.train), nearest(held_out, pictures.train)
    copies = float((ours < theirs.quantile(0.01)).double().mean())
    losses = {key: " ".join(f"{v:.3f}" for v in last[key]) for key in ("held_out", "train")}
    made = {
        "split": f"{len(pictures.train)} pictures trained on, {len(pictures.test)} held out",
        "recipe": ", ".join(f"{k} {v}" for k, v in asdict(recipe).items()),
        "training": f"{last['seen'] // recipe.batch} steps, {last['seconds']} s on {options.how}",
        "sampled with": f"`{SAMPLER!r}`, seeds 0 to {len(samples) - 1}",
    }
    return (
        made,
        f"""\
Sliced Wasserstein-1 distance of {n} pictures to {n} held-out ones (1000 directions, pixels in [-1, 1]):
{", ".join(f"{key} **{value:.4f}**" for key, value in scores.items())}.

Memorisation: root mean square distance to the nearest training picture, median (1 % quantile):
samples **{ours.median():.3f}** ({ours.quantile(0.01):.3f}), held-out pictures \
**{theirs.median():.3f}** ({theirs.quantile(0.01):.3f});
{copies:.1%} of the samples are nearer than the 1 % quantile of the held-out pictures.

Weighted denoising loss at sigma 0.05, 0.2, 0.5, 1, 3, 10:
held out {losses["held_out"]}; trained on {losses["train"]}.""",
    )


def drawn(prior: Any, count: int, judged: bool) -> tuple[Tensor, Tensor]:
    """Samples in [-1, 1], and their classes: one after the other if they are judged by them, or else none."""
    seeds, found = torch.arange(count), torch.empty(count, *prior.space.shape)
    labels = seeds % prior.labels if judged else torch.full((count,), -1)
    for label in labels.unique().tolist():
        member = prior if label < 0 else prior.given(po.Label(label))
        for rows in torch.split((labels == label).nonzero().flatten(), 50):
            found[rows] = SAMPLER.sample(member, rows.tolist()).float().clamp(-1, 1)
    return found, labels


def main() -> None:
    """The command line."""
    parser = command(__doc__)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--bf16", action="store_true", help="draw them in half the precision")
    options = parser.parse_args()
    name, out, recipe = options.name, options.out, RECIPES[options.name]
    pictures = DATA[name](options.data)
    sha256 = write_model(recipe, pictures, options.run, out)
    write_examples(name, pictures, out)
    write_scale(out)
    if options.samples:
        half = torch.bfloat16 if options.bf16 else torch.float32
        prior = po.load_prior(str(out), dtype=half)
        samples, labels = drawn(prior, options.samples, name in JUDGED)
        (out / "grid.png").write_bytes(png(grid([to_bytes(x) for x in samples[:60]], 12), 2))
        made, scores = numbers(options, recipe, pictures, samples)
        judged = name in JUDGED
        classes = {"classes": section(pictures, samples, labels, recipe.labels)} if judged else {}
        write_page(out, made, sha256, scores=scores, **classes)


if __name__ == "__main__":
    main()
