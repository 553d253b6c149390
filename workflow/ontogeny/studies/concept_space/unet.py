"""The paper's U-Net, which guesses the noise: every residual block has conditioning networks of its own.

Members are computed one after another, since one such network fills a device; parameters are rows of a tensor (M, P) as
for the other network, so that training and sampling need not know which of the two they deal with.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from ontogeny.studies.concept_space.diffusion import Batch, image_share, loss_weight, noise_share
from ontogeny.studies.concept_space.mlp import CONDITION, FREQUENCIES, time_features
from ontogeny.studies.concept_space.settings import UNet

GROUPS, HEADS = 8, 4
TIME = 2 * FREQUENCIES + 1


def told(inputs: int, channels: int) -> nn.Sequential:
    """Two layers that turn a condition, or a noise level, into a shift of the channels."""
    return nn.Sequential(nn.Linear(inputs, channels), nn.GELU(), nn.Linear(channels, channels), nn.GELU())


class Block(nn.Module):
    """Residual block; `shift` (N, channels) comes from its conditioning network."""

    def __init__(self, entry: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(GROUPS, entry), nn.GELU(), nn.Conv2d(entry, channels, 3, padding=1))
        self.second = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.time = told(TIME, channels)
        self.skip = nn.Conv2d(entry, channels, 1) if entry != channels else nn.Identity()

    def forward(self, image: Tensor, late: Tensor, shift: Tensor) -> Tensor:
        hidden = self.first(image) + (shift + self.time(late))[:, :, None, None]
        return self.skip(image) + self.second(hidden)


class Attention(nn.Module):
    """Self-attention over the positions of an image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.project, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        size = image.shape
        split = self.project(self.norm(image)).reshape(size[0], 3, HEADS, size[1] // HEADS, -1).transpose(-1, -2)
        query, key, value = split.unbind(1)
        mixed = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), dim=-1) @ value
        return image + self.out(mixed.transpose(-1, -2).reshape(size))


class Body(nn.Module):
    """The U-Net proper; `widths` are the channels of its blocks, in the order in which they are passed."""

    def __init__(self, settings: UNet) -> None:
        super().__init__()
        levels, count = settings.channels, settings.blocks
        self.count, self.widths = count, [c for c in levels for _ in range(count)]
        self.entry = nn.Conv2d(3, levels[0], 3, padding=1)
        starts = [levels[0], *levels[:-1]]
        self.down = nn.ModuleList(
            Block(start if k == 0 else c, c) for start, c in zip(starts, levels, strict=True) for k in range(count)
        )
        self.shrink = nn.ModuleList(nn.Conv2d(c, c, 2, stride=2) for c in levels[:-1])
        self.middle = nn.ModuleList(
            [Block(levels[-1], levels[-1]), Attention(levels[-1]), Block(levels[-1], levels[-1])]
        )
        pairs = zip(levels[:0:-1], levels[-2::-1], strict=True)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(Block(2 * c if k == 0 else c, c) for c in levels[-2::-1] for k in range(count))
        self.widths += [levels[-1]] * 2 + [c for c in levels[-2::-1] for _ in range(count)]
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, levels[0]), nn.GELU(), nn.Conv2d(levels[0], 3, 3, padding=1))

    def forward(self, image: Tensor, late: Tensor, embedded: Tensor) -> Tensor:
        shifts = iter(embedded.split(self.widths, dim=-1))
        hidden, kept = self.entry(image), []
        for index, block in enumerate(self.down):
            hidden = block(hidden, late, next(shifts))
            level, place = divmod(index, self.count)
            if place == self.count - 1 and level < len(self.shrink):
                kept.append(hidden)
                hidden = self.shrink[level](hidden)
        hidden = self.middle[1](self.middle[0](hidden, late, next(shifts)))
        hidden = self.middle[2](hidden, late, next(shifts))
        for index, block in enumerate(self.up):
            if index % self.count == 0:
                hidden = torch.cat([self.grow[index // self.count](hidden), kept.pop()], dim=1)
            hidden = block(hidden, late, next(shifts))
        return self.out(hidden)


class Conditioning(nn.Module):
    """The conditioning networks of all blocks, side by side."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(told(CONDITION, width) for width in widths)

    def forward(self, condition: Tensor) -> Tensor:
        return torch.cat([part(condition) for part in self.parts], dim=-1)


class UNetDenoiser:
    """The network as training and sampling see it."""

    def __init__(self, settings: UNet, pixels: int, weight_cap: float) -> None:
        self.pixels, self.weight_cap = pixels, weight_cap
        with torch.random.fork_rng(devices=[]):  # modules draw when they are made; those draws are thrown away
            self.body = Body(settings)
            self.conditioning = Conditioning(self.body.widths)
        self.modules = nn.ModuleDict({"body": self.body, "conditioning": self.conditioning})
        self.embedding = sum(self.body.widths)

    def initial(self, stream: torch.Generator, mean: Tensor) -> Tensor:
        """Parameters (M, P) that members start from, all the same: uniform within 1 / sqrt(inputs), norms the identity,
        the last convolution of each block zero."""
        parts = []
        for name, value in self.modules.named_parameters():
            fixed = value.dim() == 1 or "second.2" in name
            bound = 0.0 if fixed else 1 / math.sqrt(value[0].numel())
            drawn = (2 * torch.rand(value.shape, generator=stream) - 1) * bound
            parts.append((value.detach().clone() if self._is_norm(name) else drawn).flatten())
        return torch.cat(parts).repeat(len(mean), 1)

    def _is_norm(self, name: str) -> bool:
        return isinstance(self.modules.get_submodule(name.rpartition(".")[0]), nn.GroupNorm)

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """The parameters within `flat` (M, P): (M, ...) by name."""
        named = dict(self.modules.named_parameters())
        pieces = flat.split([value.numel() for value in named.values()], dim=1)
        return {
            name: piece.reshape(len(flat), *value.shape)
            for (name, value), piece in zip(named.items(), pieces, strict=True)
        }

    def _call(self, part: str, weights: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        own = {name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")}
        return functional_call(self.modules[part], own, inputs)

    def embed(self, flat: Tensor, condition: Tensor) -> Tensor:
        """Outputs of all conditioning networks, side by side: condition (M, N, 4) -> (M, N, embedding)."""
        return vmap(lambda weights, c: self._call("conditioning", weights, c), chunk_size=1)(
            self.views(flat), condition
        )

    def _noise(self, weights: dict[str, Tensor], noisy: Tensor, gamma: Tensor, embedded: Tensor) -> Tensor:
        """The noise (N, D) in `noisy` (N, D), as one member guesses it; gamma (N)."""
        image = noisy.unflatten(1, (3, self.pixels, self.pixels))
        return self._call("body", weights, image, time_features(gamma), embedded).flatten(1)

    def guess(self, flat: Tensor, noisy: Tensor, gamma: Tensor, embedded: Tensor) -> Tensor:
        """The clean images (M, N, D) behind `noisy`, at one gamma (); embedded: (M, N, embedding)."""
        alike = gamma.expand(noisy.shape[1])
        noise = vmap(lambda w, z, e: self._noise(w, z, alike, e), chunk_size=1)(self.views(flat), noisy, embedded)
        return (noisy - noise_share(gamma) * noise) / image_share(gamma)

    def gradient(self, flat: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss (M) and its gradient (M, P)."""
        gamma = batch.gamma
        weight = loss_weight(gamma, self.weight_cap) * torch.exp(gamma)  # of the squared error of the noise

        def loss(weights: dict[str, Tensor], clean: Tensor, condition: Tensor) -> Tensor:
            noisy = image_share(gamma)[:, None] * clean + noise_share(gamma)[:, None] * batch.noise
            told_ = self._call("conditioning", weights, condition)
            error = (self._noise(weights, noisy, gamma, told_) - batch.noise).square().mean(dim=1)
            return (weight * error).mean()

        grads, losses = vmap(grad_and_value(loss), chunk_size=1)(self.views(flat), batch.clean, batch.condition)
        return losses, torch.cat([value.flatten(1) for value in grads.values()], dim=1)
