"""Small causal transformers, many at once, with gradients written out.

The architecture is that of GPT-NeoX with a sequential residual: pre-norm blocks of rotary self-attention and a layer of
units, a last norm and a read-out of its own. There are no gains and no biases: every norm is followed by a linear map
that can take its gain over, and a direction that all embeddings share serves as the constant that a bias multiplies.

Interface. A network is a flat vector of P numbers, an ensemble is (M, P); `Architecture.unpack` gives views by name.

    flat = torch.stack([initial(architecture, stream, 0.05) for stream in streams])   # (M, P)
    logits, tape = forward(architecture, flat, tokens)       # tokens (M, B, T) -> logits (M, O, B, T)
    loss, d_logits = cross_entropy(logits, targets)          # targets (M, B, T) -> loss (M,)
    gradient = backward(architecture, flat, tape, d_logits)  # (M, P)

Any loss will do: `backward` asks for its gradient with respect to the logits only. Members do not touch each other. On
a CPU a caller does well to pass few members at a time (`together`), so that their activations stay in the cache.

Axes: M members, B sequences, T tokens, d width, F hidden units, O outputs, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Literal

import torch
from torch import Tensor

ROTARY_BASE = 10_000.0
CACHE = 2**21  # bytes of a core's own cache
KEPT = 31 * 2**20  # bytes; from 32 MiB on glibc no longer learns
EPS = 1e-5
MAPS = ("qkv", "out", "up", "down")  # of a layer, in the order of use
OPS = torch.ops.aten


@dataclass(frozen=True)
class Architecture:
    """Sizes of a network. rotary: entries of a head's queries and keys that are rotated by their position (even)."""

    vocabulary: int
    outputs: int
    width: int
    layers: int
    heads: int
    hidden: int
    rotary: int
    units: Literal["gelu", "relu"]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Name -> shape of every parameter; maps are (inputs, outputs)."""
        d, f = self.width, self.hidden
        block = {"qkv": (d, 3 * d), "out": (d, d), "up": (d, f), "down": (f, d)}
        blocks = {f"{layer}.{name}": shape for layer in range(self.layers) for name, shape in block.items()}
        return {"embed": (self.vocabulary, d), **blocks, "unembed": (d, self.outputs)}

    @property
    def parameters(self) -> int:
        """P, numbers of a network."""
        return sum(map(prod, self.shapes.values()))

    def unpack(self, flat: Tensor) -> dict[str, Tensor]:
        """Views (..., *shape) by name of parameters (..., P)."""
        pieces = flat.split([prod(shape) for shape in self.shapes.values()], dim=-1)
        named = zip(self.shapes.items(), pieces, strict=True)
        return {name: piece.unflatten(-1, shape) for (name, shape), piece in named}

    def flops(self, tokens: int, length: int) -> float:
        """Operations of a forward and a backward pass over `tokens` tokens in sequences of `length`.

        A map costs two operations a weight and token forwards and four backwards, except that the embedding is looked
        up; causal attention pairs a token with (length + 1) / 2 others, in two products of `width` numbers.
        """
        maps = sum(prod(s) for name, s in self.shapes.items() if name != "embed")
        return 6.0 * tokens * (maps + self.layers * self.width * (length + 1))


def initial(architecture: Architecture, stream: torch.Generator, deviation: float) -> Tensor:
    """Parameters (P,) of one network: normal, with this standard deviation."""
    return torch.randn(architecture.parameters, generator=stream) * deviation


def together(architecture: Architecture, tokens: int, device: str) -> int:
    """How many members to pass at a time, for `tokens` tokens each.

    All on a GPU. On a CPU as many as keep their widest activations and its gradient in the cache, at least one. The
    allocation asks for nothing: freeing a large block makes glibc keep freed memory from then on, up to twice the size
    of the block, instead of returning it to the kernel, whose page faults would take a third of the time.
    """
    if device != "cpu":
        return 2**31
    torch.empty(KEPT, dtype=torch.uint8)
    return max(1, CACHE // (8 * tokens * max(architecture.hidden, 3 * architecture.width)))


@dataclass(frozen=True, eq=False)
class Norm:
    """A layer norm's input, output and statistics."""

    before: Tensor
    after: Tensor
    mean: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Norm:
        """Normalise the last axis of x (M, B T, d)."""
        return cls(x, *torch.native_layer_norm(x, x.shape[-1:], None, None, EPS))

    def backward(self, slope: Tensor) -> Tensor:
        """Gradient with respect to the input."""
        statistics = (self.before, self.before.shape[-1:], self.mean, self.inverse, None, None)
        return OPS.native_layer_norm_backward(slope, *statistics, [True, False, False])[0]


@dataclass(frozen=True, eq=False)
class Attention:
    """q, k, v (M B H, T, d / H), the weights that each token gives to others (M B H, T, T), and what they gather."""

    q: Tensor
    k: Tensor
    v: Tensor
    weights: Tensor
    gathered: Tensor  # (M, B T, d)


@dataclass(frozen=True, eq=False)
class Block:
    """What the backward pass needs of one layer."""

    first: Norm
    attention: Attention
    second: Norm
    units: Tensor  # what the hidden units are given, (M, B T, F)
    active: Tensor  # what they make of it


@dataclass(frozen=True, eq=False)
class Tape:
    """What the backward pass needs of a forward pass."""

    tokens: Tensor
    blocks: list[Block]
    last: Norm


def forward(architecture: Architecture, flat: Tensor, tokens: Tensor) -> tuple[Tensor, Tape]:
    """Logits (M, O, B, T) for tokens (M, B, T), and the tape for `backward`. flat: (M, P)."""
    weights = architecture.unpack(flat)
    x, blocks = _embed(weights["embed"], tokens), []
    for layer in range(architecture.layers):
        qkv, out, up, down = (weights[f"{layer}.{name}"] for name in MAPS)
        first = Norm.of(x)
        attention = _attend(architecture, first.after @ qkv, tokens.shape)
        second = Norm.of(torch.baddbmm(x, attention.gathered, out))
        units = second.after @ up
        active = torch.relu(units) if architecture.units == "relu" else torch.nn.functional.gelu(units)
        x = torch.baddbmm(second.before, active, down)
        blocks.append(Block(first, attention, second, units, active))
    last = Norm.of(x)
    logits = weights["unembed"].mT @ last.after.mT
    return logits.unflatten(-1, tokens.shape[1:]), Tape(tokens, blocks, last)


def backward(architecture: Architecture, flat: Tensor, tape: Tape, d_logits: Tensor) -> Tensor:
    """Gradient (M, P) of a loss whose gradient with respect to the logits (M, O, B, T) is `d_logits`."""
    weights, slopes = architecture.unpack(flat), dict[str, Tensor]()
    slope = d_logits.flatten(2).mT
    slopes["unembed"] = tape.last.after.mT @ slope
    d_x = tape.last.backward(slope @ weights["unembed"].mT)
    for layer, block in reversed(list(enumerate(tape.blocks))):
        qkv, out, up, down = (weights[f"{layer}.{name}"] for name in MAPS)
        slopes[f"{layer}.down"] = block.active.mT @ d_x
        d_units = _through_units(architecture, d_x @ down.mT, block.units)
        slopes[f"{layer}.up"] = block.second.after.mT @ d_units
        d_x = block.second.backward(d_units @ up.mT).add_(d_x)
        slopes[f"{layer}.out"] = block.attention.gathered.mT @ d_x
        d_qkv = _attend_backward(architecture, block.attention, d_x @ out.mT, tape.tokens.shape)
        slopes[f"{layer}.qkv"] = block.first.after.mT @ d_qkv
        d_x = block.first.backward(d_qkv @ qkv.mT).add_(d_x)
    slopes["embed"] = _one_hot(tape.tokens, architecture.vocabulary, d_x.dtype) @ d_x
    return torch.cat([slopes[name].flatten(1) for name in architecture.shapes], dim=1)


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross entropy (M,) in nats of logits (M, O, B, T) against targets (M, B, T), and its gradient."""
    logs = logits.log_softmax(1)
    chosen = targets.unsqueeze(1)
    loss = -logs.gather(1, chosen).mean((1, 2, 3))
    hit = chosen == torch.arange(logits.shape[1], device=logits.device).view(-1, 1, 1)
    return loss, logs.exp_().sub_(hit.to(logs.dtype)).div_(targets[0].numel())


def _through_units(architecture: Architecture, slope: Tensor, units: Tensor) -> Tensor:
    """Gradient with respect to what the units are given."""
    return OPS.threshold_backward(slope, units, 0) if architecture.units == "relu" else OPS.gelu_backward(slope, units)


def _embed(table: Tensor, tokens: Tensor) -> Tensor:
    """Rows of table (M, V, d) at tokens (M, B, T): (M, B T, d)."""
    first = torch.arange(len(table), device=table.device).unsqueeze(1) * table.shape[1]
    return torch.nn.functional.embedding(tokens.flatten(1) + first, table.flatten(0, 1))


def _one_hot(tokens: Tensor, vocabulary: int, dtype: torch.dtype) -> Tensor:
    """(M, V, B T): 1 where a token is at its place. A product with it adds up by token, in a fixed order."""
    return (tokens.flatten(1).unsqueeze(1) == torch.arange(vocabulary, device=tokens.device).unsqueeze(1)).to(dtype)


@lru_cache(maxsize=16)
def _rotation(length: int, rotary: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """exp(i t base^(-2 j / rotary)) for positions t and pairs of entries j: complex (T, rotary / 2)."""
    rate = ROTARY_BASE ** (-torch.arange(0, rotary, 2, dtype=torch.float64) / rotary)
    angle = torch.arange(length, dtype=torch.float64).unsqueeze(1) * rate
    return torch.polar(torch.ones_like(angle), angle).to(dtype.to_complex()).to(device)


@lru_cache(maxsize=16)
def _causal(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(1, T, T): minus infinity where a token would look ahead."""
    return torch.full((1, length, length), -torch.inf, dtype=dtype, device=device).triu_(1)


def _rotate(heads: Tensor, rotary: int, back: bool) -> None:
    """Rotate the first entries of q and k in place. heads: (3, M, B, H, T, d / H). back: the other way round."""
    if rotary:
        turn = _rotation(heads.shape[4], rotary, heads.dtype, heads.device)
        pairs = torch.view_as_complex(heads[:2, ..., :rotary].unflatten(-1, (-1, 2)))
        pairs.mul_(turn.conj() if back else turn)


def _split(architecture: Architecture, qkv: Tensor, shape: torch.Size) -> Tensor:
    """(M, B T, 3 d) as a view (3, M, B, H, T, d / H)."""
    heads = qkv.view(*shape, 3, architecture.heads, architecture.width // architecture.heads)
    return heads.permute(3, 0, 1, 4, 2, 5)


def _attend(architecture: Architecture, qkv: Tensor, shape: torch.Size) -> Attention:
    """Causal attention of all heads. qkv: (M, B T, 3 d), rotated in place. shape: M, B, T."""
    heads = _split(architecture, qkv, shape)
    _rotate(heads, architecture.rotary, back=False)
    q, k, v = heads.flatten(1, 3)
    scale = (architecture.width // architecture.heads) ** -0.5
    weights = torch.baddbmm(_causal(shape[2], q.dtype, q.device), q, k.mT, alpha=scale).softmax(-1)
    gathered = (weights @ v).unflatten(0, heads.shape[1:4]).transpose(2, 3)
    return Attention(q, k, v, weights, gathered.reshape(shape[0], -1, architecture.width))


def _attend_backward(architecture: Architecture, attention: Attention, slope: Tensor, shape: torch.Size) -> Tensor:
    """Gradient (M, B T, 3 d) with respect to qkv, from that with respect to what attention gathers, (M, B T, d)."""
    per_head = slope.view(*shape, architecture.heads, -1).transpose(2, 3).flatten(0, 2)
    d_weights = per_head @ attention.v.mT
    d_scores = OPS._softmax_backward_data(d_weights, attention.weights, -1, slope.dtype)
    d_scores.mul_((architecture.width // architecture.heads) ** -0.5)
    gradient = slope.new_empty(shape[0], slope.shape[1], 3 * architecture.width)
    heads = _split(architecture, gradient, shape)
    parts = (d_scores @ attention.k, d_scores.mT @ attention.q, attention.weights.mT @ per_head)
    for own, part in zip(heads, parts, strict=True):
        own.copy_(part.view(own.shape))
    _rotate(heads, architecture.rotary, back=True)
    return gradient
