"""Residual network that guesses the clean image: gradients by hand, members side by side.

    u0 = [z, time, 1] W0,          h0 = gelu(u0)
    u1 = h0 W1 + e1(condition),    h1 = h0 + gelu(u1)
    u2 = h1 W2 + e2(condition),    h2 = h1 + gelu(u2)
    x' = h2 W3 + b3

Both conditioning networks e are their own: e(c) = gelu([c, 1] A) C + d. A member's parameters are one row of a tensor
(M, P), so that the optimiser sees a single tensor; `views` cuts it up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu, pad

from ontogeny.studies.concept_space.diffusion import Batch, image_share, loss_weight, noise_share
from ontogeny.studies.concept_space.settings import Mlp

CONDITION = 4  # red, green, blue, radius
FREQUENCIES = 8  # of the time features
START = 0.1  # size of the initial output weights, relative to variance 1 / inputs
gelu_backward = torch.ops.aten.gelu_backward


def time_features(gamma: Tensor) -> Tensor:
    """Sines and cosines of gamma (N), and a one for the bias: (N, 2 * FREQUENCIES + 1)."""
    phase = gamma.unsqueeze(-1) * (0.1 * 1.6 ** torch.arange(FREQUENCIES, device=gamma.device))
    return torch.cat([phase.sin(), phase.cos(), torch.ones_like(gamma).unsqueeze(-1)], dim=-1)


@dataclass
class Pass:
    """What a forward pass leaves behind for the backward pass."""

    entry: Tensor  # [z, time, 1]
    one: Tensor  # [condition, 1]
    inner: list[Tensor]  # pre-activations of the two conditioning networks
    lit: list[Tensor]  # their activations
    before: list[Tensor]  # u0, u1, u2
    hidden: list[Tensor]  # h0, h1, h2


class MlpDenoiser:
    """The network; it holds shapes only, parameters are handed in."""

    def __init__(self, settings: Mlp, pixels: int, weight_cap: float) -> None:
        image, width, inner = 3 * pixels**2, settings.width, settings.conditioning
        self.image, self.width, self.weight_cap = image, width, weight_cap
        self.shapes = {
            "w0": (image + 2 * FREQUENCIES + 1, width), "w1": (width, width), "w2": (width, width),
            "w3": (width, image), "b3": (1, image), "a1": (CONDITION + 1, inner), "a2": (CONDITION + 1, inner),
            "c1": (inner, width), "c2": (inner, width), "d1": (1, width), "d2": (1, width),
        }  # fmt: skip
        self.embedding = 2 * width

    def initial(self, stream: torch.Generator, mean: Tensor) -> Tensor:
        """Parameters (M, P) that members start from: the same but for the output's bias, their mean image (M, D).

        Matrices are normal with variance 1 / inputs, the output's START times as large; other biases are zero.
        """
        parts = []
        for name, shape in self.shapes.items():
            size = {"w3": START}.get(name, 1.0) / math.sqrt(shape[0])
            parts.append(torch.randn(shape, generator=stream) * size if name[0] in "wac" else torch.zeros(shape))
        flat = torch.cat([part.flatten() for part in parts]).repeat(len(mean), 1)
        self.views(flat)["b3"].copy_(mean.unsqueeze(1))
        return flat

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """The matrices within `flat` (M, P): (M, rows, columns) by name."""
        pieces = flat.split([math.prod(shape) for shape in self.shapes.values()], dim=1)
        named = zip(self.shapes.items(), pieces, strict=True)
        return {name: piece.unflatten(1, shape) for (name, shape), piece in named}

    def embed(self, flat: Tensor, condition: Tensor) -> Tensor:
        """Outputs of both conditioning networks, side by side: condition (M, N, 4) -> (M, N, 2 * width)."""
        weights, one = self.views(flat), pad(condition, (0, 1), value=1.0)
        return torch.cat([
            torch.baddbmm(weights[f"d{k}"], gelu(torch.bmm(one, weights[f"a{k}"])), weights[f"c{k}"]) for k in (1, 2)
        ], dim=2)  # fmt: skip

    def guess(self, flat: Tensor, noisy: Tensor, gamma: Tensor, embedded: Tensor) -> Tensor:
        """The clean images (M, N, D) behind `noisy`, at one gamma (); embedded: (M, N, 2 * width)."""
        weights = self.views(flat)
        bias = torch.matmul(time_features(gamma.reshape(1)), weights["w0"][:, self.image :])  # the same for all rows
        hidden = gelu(torch.baddbmm(bias, noisy, weights["w0"][:, : self.image]))
        for k, shift in enumerate(embedded.split(self.width, dim=2), 1):
            hidden = gelu(torch.baddbmm(shift, hidden, weights[f"w{k}"])).add_(hidden)
        return torch.baddbmm(weights["b3"], hidden, weights["w3"])

    def gradient(self, flat: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss (M) and its gradient (M, P)."""
        weights, grad = self.views(flat), torch.empty_like(flat)
        clean, gamma = batch.clean, batch.gamma
        noise, alpha = batch.noise * noise_share(gamma)[:, None], image_share(gamma)[:, None]
        entry = clean.new_empty(*clean.shape[:2], self.image + 2 * FREQUENCIES + 1)
        torch.addcmul(noise, clean, alpha, out=entry[:, :, : self.image])
        entry[:, :, self.image :] = time_features(gamma)
        past = self._forward(weights, entry, pad(batch.condition, (0, 1), value=1.0))
        error = torch.baddbmm(weights["b3"], past.hidden[2], weights["w3"]).sub_(clean)
        slope = error * (loss_weight(gamma, self.weight_cap) * (2 / error[0].numel()))[:, None]
        loss = torch.einsum("mbd,mbd->m", error, slope) / 2
        self._backward(weights, self.views(grad), past, slope)
        return loss, grad

    def _forward(self, weights: dict[str, Tensor], entry: Tensor, one: Tensor) -> Pass:
        inner = [torch.bmm(one, weights[f"a{k}"]) for k in (1, 2)]
        past = Pass(entry, one, inner, [gelu(values) for values in inner], [torch.bmm(entry, weights["w0"])], [])
        past.hidden.append(gelu(past.before[0]))
        for k in (1, 2):
            shift = torch.baddbmm(weights[f"d{k}"], past.lit[k - 1], weights[f"c{k}"])
            past.before.append(shift.baddbmm_(past.hidden[-1], weights[f"w{k}"]))
            past.hidden.append(gelu(past.before[-1]).add_(past.hidden[-1]))
        return past

    def _backward(self, weights: dict[str, Tensor], grads: dict[str, Tensor], past: Pass, slope: Tensor) -> None:
        """Fill `grads` from `slope` = dL / d output (M, B, D)."""
        torch.sum(slope, dim=1, keepdim=True, out=grads["b3"])
        torch.bmm(past.hidden[2].mT, slope, out=grads["w3"])
        back = torch.bmm(slope, weights["w3"].mT)
        for k in (2, 1):
            inside = gelu_backward(back, past.before[k])
            torch.bmm(past.hidden[k - 1].mT, inside, out=grads[f"w{k}"])
            torch.bmm(past.lit[k - 1].mT, inside, out=grads[f"c{k}"])
            torch.sum(inside, dim=1, keepdim=True, out=grads[f"d{k}"])
            below = gelu_backward(torch.bmm(inside, weights[f"c{k}"].mT), past.inner[k - 1])
            torch.bmm(past.one.mT, below, out=grads[f"a{k}"])
            back.baddbmm_(inside, weights[f"w{k}"].mT)
        torch.bmm(past.entry.mT, gelu_backward(back, past.before[0]), out=grads["w0"])
