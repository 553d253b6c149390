"""Small decoder-only language models of the Llama architecture, many at once.

A network is a flat vector of P numbers, an ensemble is (M, P); `Architecture.unpack` gives views by name. What it
computes is what transformers' ``LlamaForCausalLM`` computes with the configuration of `Architecture.config` and the
weights of `to_pretrained` (Touvron et al. 2023): pre-norm blocks of rotary attention and gated units, root-mean-
square norms, no biases, input and output embeddings tied. One network of it is read by `from_pretrained` of
transformers, see `ontogeny.language.folders`.

Axes: M members, B sequences, T tokens, V vocabulary, d width, F hidden units, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ROTARY_BASE = 10_000.0
EPS = 1e-6
DEVIATION = 0.02  # of initial weights, as in transformers


@dataclass(frozen=True)
class Architecture:
    """Sizes of a network. context: the most tokens that it is trained on."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    context: int

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the {self.heads} heads (rotary pairs)")

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every parameter; maps are (outputs, inputs), maps with the same input are one."""
        d, f = self.width, self.hidden
        block = {"norm1": (d,), "qkv": (3 * d, d), "out": (d, d), "norm2": (d,), "units": (2 * f, d), "down": (d, f)}
        blocks = {f"{layer}.{name}": shape for layer in range(self.layers) for name, shape in block.items()}
        return {"embed": (self.vocabulary, d), **blocks, "norm": (d,)}

    @property
    def parameters(self) -> int:
        """P, numbers of a network."""
        return sum(map(prod, self.shapes.values()))

    def unpack(self, flat: Tensor) -> dict[str, Tensor]:
        """Views (..., *shape) by name of parameters (..., P)."""
        pieces = flat.split([prod(shape) for shape in self.shapes.values()], dim=-1)
        return {
            name: piece.unflatten(-1, shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def pack(self, named: Mapping[str, Tensor]) -> Tensor:
        """The inverse of `unpack`: (..., P)."""
        return torch.cat([named[name].flatten(-len(shape)) for name, shape in self.shapes.items()], dim=-1)

    def flops(self, tokens: int, length: int) -> float:
        """Operations of a forward and a backward pass over `tokens` tokens in sequences of `length`.

        A map costs two operations a weight and token forwards and four backwards; the embedding counts once, as the
        read-out. Causal attention pairs a token with (length + 1) / 2 others, in two products of `width` numbers.
        """
        return 6.0 * tokens * (self.parameters + self.layers * self.width * (length + 1))

    def config(self, end_of_text: int) -> dict[str, Any]:
        """The content of transformers' config.json for this architecture. end_of_text: id of that token.

        No padding token is named, though END serves as one: transformers would keep its embedding from learning.
        """
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "intermediate_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "max_position_embeddings": self.context,
            "hidden_act": "silu",
            "rms_norm_eps": EPS,
            "rope_theta": ROTARY_BASE,
            "tie_word_embeddings": True,
            "attention_bias": False,
            "mlp_bias": False,
            "initializer_range": DEVIATION,
            "bos_token_id": end_of_text,
            "eos_token_id": end_of_text,
            "dtype": "float32",
        }


def initial(architecture: Architecture, stream: torch.Generator) -> Tensor:
    """Parameters (P,) of one network: normal with standard deviation DEVIATION, gains of norms one."""
    flat = torch.randn(architecture.parameters, generator=stream) * DEVIATION
    for name, values in architecture.unpack(flat).items():
        if "norm" in name:
            values.fill_(1)
    return flat


def embed(weights: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    """Input embeddings (M, B, T, d) of tokens (M, B, T)."""
    table = weights["embed"]
    first = torch.arange(len(table), device=table.device).view(-1, 1, 1) * table.shape[1]
    return functional.embedding(tokens + first, table.flatten(0, 1))


def hidden_states(architecture: Architecture, weights: Mapping[str, Tensor], embedded: Tensor) -> Tensor:
    """What the read-out is given but for the gain of its norm, (M, B T, d), from input embeddings (M, B, T, d)."""
    shape, x = embedded.shape[:3], embedded.flatten(1, 2)
    for layer in range(architecture.layers):
        own = {name: weights[f"{layer}.{name}"] for name in ("norm1", "qkv", "out", "norm2", "units", "down")}
        qkv = _normed(x, own["norm1"], own["qkv"])
        x = torch.baddbmm(x, _attend(architecture, qkv, shape), own["out"].mT)
        gate, up = _normed(x, own["norm2"], own["units"]).chunk(2, dim=-1)
        x = torch.baddbmm(x, functional.silu(gate) * up, own["down"].mT)
    return _Norm.apply(x)


def logits(architecture: Architecture, weights: Mapping[str, Tensor], embedded: Tensor) -> Tensor:
    """Logits (M, B, T, V) from input embeddings (M, B, T, d). weights: (M, ...) by name."""
    states = hidden_states(architecture, weights, embedded)
    return (states @ _gained(weights["embed"], weights["norm"]).mT).unflatten(1, embedded.shape[1:3])


class _Norm(torch.autograd.Function):
    """Root-mean-square norm over the last axis, without a gain. By hand, as it takes half of the passes over x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = size.square_().div_(x.shape[-1]).add_(EPS).rsqrt_()
        normed = x * scale
        ctx.save_for_backward(normed, scale)
        return normed

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        normed, scale = ctx.saved_tensors
        along = (slope * normed).mean(-1, keepdim=True)
        return torch.addcmul(slope, normed, along, value=-1).mul_(scale)


def _gained(maps: Tensor, gain: Tensor) -> Tensor:
    """A norm's gain (M, d), taken into the maps (M, outputs, d) that follow: they have fewer numbers than x."""
    return maps * gain.unsqueeze(1)


def _normed(x: Tensor, gain: Tensor, maps: Tensor) -> Tensor:
    """Maps (M, outputs, d) of the root-mean-square norm with gain (M, d) of x (M, N, d): (M, N, outputs)."""
    return _Norm.apply(x) @ _gained(maps, gain).mT


@lru_cache(maxsize=16)
def _rotation(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, size) of the angles t base^(-2 j / size), for each half; the first half's sines negated."""
    rate = ROTARY_BASE ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), rate)
    return angle.cos().repeat(1, 2).to(device), torch.cat((-angle.sin(), angle.sin()), dim=1).to(device)


def _rotate(heads: Tensor) -> Tensor:
    """Rotate queries or keys (..., T, size) by their positions; entry j is paired with entry j + size / 2."""
    cosine, sine = _rotation(heads.shape[-2], heads.shape[-1], heads.device)
    return torch.addcmul(heads * cosine, heads.roll(heads.shape[-1] // 2, -1), sine)


def _attend(architecture: Architecture, qkv: Tensor, shape: torch.Size) -> Tensor:
    """Causal attention of all heads, (M, B T, d). qkv: (M, B T, 3 d). shape: M, B, T."""
    heads = qkv.view(*shape, 3, architecture.heads, -1).permute(3, 0, 1, 4, 2, 5).flatten(1, 2)
    both, values = heads.split([2, 1])
    queries, keys = _rotate(both).unbind()
    gathered = functional.scaled_dot_product_attention(queries, keys, values[0], is_causal=True)
    return gathered.transpose(1, 2).reshape(shape[0], -1, architecture.width)


def to_pretrained(architecture: Architecture, flat: Tensor) -> dict[str, Tensor]:
    """Weights of one network (P,) under the names that transformers' LlamaForCausalLM gives them."""
    named = architecture.unpack(flat)
    found = {"model.embed_tokens.weight": named["embed"], "model.norm.weight": named["norm"]}
    for layer in range(architecture.layers):
        for parts, name in _PARTS.items():
            pieces = named[f"{layer}.{name}"].chunk(len(parts))
            found |= {f"model.layers.{layer}.{part}.weight": piece for part, piece in zip(parts, pieces, strict=True)}
    return found


def from_pretrained(architecture: Architecture, tensors: Mapping[str, Tensor]) -> Tensor:
    """The inverse of `to_pretrained`: (P,). Raises KeyError for a weight that is not there."""
    named = {"embed": tensors["model.embed_tokens.weight"], "norm": tensors["model.norm.weight"]}
    for layer in range(architecture.layers):
        for parts, name in _PARTS.items():
            named[f"{layer}.{name}"] = torch.cat([tensors[f"model.layers.{layer}.{part}.weight"] for part in parts])
    return architecture.pack(named)


_PARTS = {
    ("input_layernorm",): "norm1",
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"): "qkv",
    ("self_attn.o_proj",): "out",
    ("post_attention_layernorm",): "norm2",
    ("mlp.gate_proj", "mlp.up_proj"): "units",
    ("mlp.down_proj",): "down",
}
