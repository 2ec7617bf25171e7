"""State dicts of guided-diffusion: a converted network against one written here from its paper."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import posteria as po
from posteria.priors.readers import adm
from posteria.priors.readers.adm import LAYOUTS, Layout, Signature, converted, signature_of


class Residual(nn.Module):
    """A residual block that may halve or double the resolution, as of BigGAN."""

    def __init__(self, given: int, made: int, embedding: int, change: str = "") -> None:
        super().__init__()
        self.change = change
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, given), nn.SiLU(), nn.Conv2d(given, made, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * made))
        last = nn.Conv2d(made, made, 3, padding=1)
        self.out_layers = nn.Sequential(nn.GroupNorm(32, made), nn.SiLU(), nn.Identity(), last)
        if given != made:
            self.skip_connection = nn.Conv2d(given, made, 1)

    def resized(self, x: Tensor) -> Tensor:
        if self.change == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0) if self.change == "up" else x

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers[2](self.resized(self.in_layers[:2](x)))
        scale, shift = self.emb_layers(embedding)[..., None, None].chunk(2, 1)
        h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        x = self.resized(x)
        return h + (self.skip_connection(x) if hasattr(self, "skip_connection") else x)


class Attention(nn.Module):
    def __init__(self, width: int, layout: Layout) -> None:
        super().__init__()
        self.heads, self.split = layout.heads or width // layout.channels, layout.split
        self.norm, self.qkv = nn.GroupNorm(32, width), nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        flat = x.flatten(2)
        rows = self.qkv(self.norm(flat))
        if self.split:
            q, k, v = rows.unflatten(1, (3, self.heads, -1)).unbind(1)
        else:
            q, k, v = rows.unflatten(1, (self.heads, 3, -1)).unbind(2)
        weights = (torch.einsum("bhct,bhcs->bhts", q, k) / math.sqrt(q.shape[2])).softmax(-1)
        made = torch.einsum("bhts,bhcs->bhct", weights, v).flatten(1, 2)
        return x + self.proj_out(made).reshape(x.shape)


class ADM(nn.Module):
    """The U-Net of guided-diffusion, with blocks that resize."""

    def __init__(
        self, signature: Signature, layout: Layout, factors: tuple[int, ...], attends: set[int]
    ) -> None:
        super().__init__()
        self.width = width = signature.width
        emb, blocks = 4 * width, signature.blocks
        self.time_embed = nn.Sequential(nn.Linear(width, emb), nn.SiLU(), nn.Linear(emb, emb))
        if signature.classes:
            self.label_emb = nn.Embedding(signature.classes, emb)
        now = width * factors[0]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, now, 3, padding=1)])])
        skips = [now]
        for level, factor in enumerate(factors):
            for _ in range(blocks):
                parts: list[nn.Module] = [Residual(now, width * factor, emb)]
                now = width * factor
                parts += [Attention(now, layout)] if level in attends else []
                self.input_blocks.append(nn.ModuleList(parts))
                skips.append(now)
            if level < len(factors) - 1:
                self.input_blocks.append(nn.ModuleList([Residual(now, now, emb, "down")]))
                skips.append(now)
        middle = [Residual(now, now, emb), Attention(now, layout), Residual(now, now, emb)]
        self.middle_block = nn.ModuleList(middle)
        self.output_blocks = nn.ModuleList()
        for level, factor in reversed(list(enumerate(factors))):
            for k in range(blocks + 1):
                parts = [Residual(now + skips.pop(), width * factor, emb)]
                now = width * factor
                parts += [Attention(now, layout)] if level in attends else []
                parts += [Residual(now, now, emb, "up")] if level and k == blocks else []
                self.output_blocks.append(nn.ModuleList(parts))
        self.out = nn.Sequential(nn.GroupNorm(32, now), nn.SiLU(), nn.Conv2d(now, 6, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        half = self.width // 2
        angles = time[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        embedding = self.time_embed(torch.cat([angles.cos(), angles.sin()], -1))
        if label is not None:
            embedding = embedding + self.label_emb(label)

        def through(parts: Any, h: Tensor) -> Tensor:
            for part in parts:
                h = part(h) if isinstance(part, nn.Conv2d) else part(h, embedding)
            return h

        seen = []
        for parts in self.input_blocks:
            x = through(parts, x)
            seen.append(x)
        x = through(self.middle_block, x)
        for parts in self.output_blocks:
            x = through(parts, torch.cat([x, seen.pop()], 1))
        return self.out(x)


def made(signature: Signature, layout: Layout, factors: tuple[int, ...], attends: set[int]) -> ADM:
    torch.manual_seed(0)
    net = ADM(signature, layout, factors, attends)
    generator = torch.Generator().manual_seed(1)
    for name, p in net.named_parameters():
        fan = max(p[0].numel(), 1) if p.ndim > 1 else 100
        p.data = torch.randn(p.shape, generator=generator) / math.sqrt(fan)
        if p.ndim == 1 and "weight" in name:
            p.data += 1
    return net.eval()


# The published layouts at a small width: heads by their channels, by their number, both orders of q, k and v.
TINY = {
    "split": (Signature(32, 5, 2, 3), Layout("", 8, po.schedules.CosineBetas(), 16, split=True)),
    "heads": (Signature(32, 5, 3, 2), Layout("", 8, heads=4)),
    "classes": (Signature(32, 5, 2, 2), Layout("", 8, channels=16)),
    "plain": (Signature(32, None, 2, 2), Layout("", 8, channels=16)),
    "ffhq": (Signature(32, None, 3, 1), Layout("", 8, channels=16)),
}


@pytest.mark.parametrize("name", TINY)
def test_a_state_dict_is_its_network(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    # Catches: heads and q, k, v in another order, blocks shifted by one, cosine and sine swapped, a learned
    # variance taken for noise, the linear table for the cosine one.
    signature, layout = TINY[name]
    factors = (1, 2, 2)[: signature.levels]
    net = made(signature, layout, factors, {signature.levels - 1})
    torch.save(net.state_dict(), tmp_path / "net.pt")
    monkeypatch.setitem(LAYOUTS, signature, layout)
    prior = po.load_prior(f"adm:{tmp_path / 'net.pt'}")
    family = prior if signature.classes is None else prior.given(po.Label(3))
    label = None if signature.classes is None else torch.full((2,), 3)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for step in (3, 500, 998):
        sigma = layout.betas.sigmas[step]
        with torch.no_grad():
            noise = net(x, torch.full((2,), float(step)), label)[:, :3]
            root = math.hypot(1, sigma)
            want = x * root - sigma * noise
            ours = family(x * root, sigma)
        assert (ours - want).abs().max() < 1e-4 * want.abs().max()
    assert prior.labels == (signature.classes or 0)
    half = po.load_prior(f"adm:{tmp_path / 'net.pt'}", dtype=torch.bfloat16)
    assert (half.dtype, half.space.dtype) == (torch.bfloat16, torch.float32)
    assert po.load_prior(f"adm:{tmp_path / 'net.pt'}", size=(16, 24)).space.shape == (3, 16, 24)
    with pytest.raises(po.InputError, match="multiples of"):
        po.load_prior(f"adm:{tmp_path / 'net.pt'}", size=(9, 8))


# Widths of the levels in units of the first, levels with attention, and millions of parameters, as published.
PUBLISHED = [
    (Signature(192, 1000, 4, 3), (1, 2, 3, 4), {1, 2, 3}, 295.9),
    (Signature(256, 1000, 5, 2), (1, 1, 2, 3, 4), {2, 3, 4}, 421.5),
    (Signature(256, 1000, 6, 2), (1, 1, 2, 2, 4, 4), {3, 4, 5}, 553.8),
    (Signature(256, None, 6, 2), (1, 1, 2, 2, 4, 4), {3, 4, 5}, 552.8),
    (Signature(128, None, 6, 1), (1, 1, 2, 2, 4, 4), {4}, 93.6),
]


@pytest.mark.parametrize(("signature", "factors", "attends", "millions"), PUBLISHED)
def test_the_published_sizes(
    signature: Signature, factors: tuple[int, ...], attends: set[int], millions: float
) -> None:
    # Catches: a layout that only fits at a small width; every weight must find its place.
    with torch.device("meta"):
        state = ADM(signature, LAYOUTS[signature], factors, attends).state_dict()
    assert signature_of(state) == signature
    unet = converted(state, signature, LAYOUTS[signature])
    assert sum(p.numel() for p in unet.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_what_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "net.pt"

    def refused(words: str, kind: type[Exception] = po.InputError) -> None:
        with pytest.raises(kind, match=words):
            po.load_prior(f"adm:{path}")

    refused("There is no file or folder")
    path.write_bytes(b"no weights")
    refused("damaged, or holds more than tensors")
    torch.save({"a": Trap()}, path)
    refused("damaged, or holds more than tensors")
    torch.save({"a": torch.ones(1)}, path)
    refused("not the state dict of a U-Net of guided-diffusion")
    signature, layout = TINY["plain"]
    state = made(signature, layout, (1, 2), {1}).state_dict()
    torch.save(state, path)
    refused("width 32, no classes, 2 levels of 2 residual blocks, which is none of the published")
    monkeypatch.setitem(LAYOUTS, signature, layout)
    for factors, attends in (((1, 4), (1,)), ((1, 2), (0, 1))):
        # Catches: a network of somebody's own, with the width and depth of a published one, that is read as that one.
        known = dataclasses.replace(layout, factors=factors, attends=attends)
        monkeypatch.setitem(LAYOUTS, signature, known)
        refused("levels of the widths .32, 64. with attention at .1,., and that of the published")
    monkeypatch.setitem(LAYOUTS, signature, layout)
    torch.save({**state, "more": torch.ones(1)}, path)
    refused("1 other weights, such as more")
    torch.save({key: value for key, value in state.items() if key != "out.2.weight"}, path)
    refused("lacks weights")
    enlarging = {**state, "input_blocks.0.0.weight": torch.ones(32, 6, 3, 3)}
    torch.save(enlarging, path)
    refused("takes 6 channels: it enlarges", po.CapabilityError)
    monkeypatch.setattr(adm, "LARGE", signature)
    refused("512 x 512", po.CapabilityError)


class Trap:
    """Fails the test where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("code in a file of weights has run",))
