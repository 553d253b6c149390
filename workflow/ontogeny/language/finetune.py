"""Fine-tuning a pretrained model in part, and what its update does: keep it, mask it, take it back.

What may learn is chosen first: everything, the upper layers, or adapters beside the weights. An `Update` then holds
theta0, the start of all that learns, so that theta0 + mask(delta) can be put into the model and theta0 restored
exactly, bit for bit.

Masks work tensor by tensor: `ignore_top` is Eq. 3 of appendix A.6 of Sun et al. 2025 (arXiv 2504.09522) as third
parties quote it, with 'largest' read as largest magnitude and without rescaling what stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ontogeny.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Mask = Callable[[str, Tensor], Tensor]  # name and delta of a tensor -> what is kept of it
Limits = Mapping[str, float]  # name of a tensor -> a magnitude of its entries


def let_all_learn(model: PreTrainedModel) -> None:
    """Everything learns."""
    model.requires_grad_(True)


def let_layers_learn(model: PreTrainedModel, count: int) -> None:
    """The uppermost `count` layers learn; embeddings, the last norm and the read-out stay as they are.

    Raises ConfigError if the model has fewer layers.
    """
    layers = layers_of(model)
    if not 0 < count <= len(layers):
        raise ConfigError(f"the uppermost {count} layers shall learn, but the model has {len(layers)}.")
    model.requires_grad_(False)
    layers[-count:].requires_grad_(True)


def let_adapters_learn(model: PreTrainedModel, rank: int, seed: int) -> PreTrainedModel:
    """Low-rank adapters (Hu et al. 2021) beside every linear map of the layers learn; returns the model with them.

    rank: inner dimension; their scale is one. The adapters' first factors are drawn with `seed`, the second are zero.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):  # peft draws from the global stream
        torch.manual_seed(seed)
        return get_peft_model(model, settings)  # type: ignore[return-value]


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The layers of a model, lowest first. Raises ConfigError if they cannot be told."""
    expected = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == expected:
            return module
    raise ConfigError(f"the {expected} layers of {type(model).__name__} cannot be found; let everything learn instead.")


class FrozenTrunk:
    """Remembers what comes out of the layers below the first that learns, so that it is computed once for each text.

    It is the same as long as nothing below learns: from then on steps and forward passes cost the upper layers only.
    """

    CAPACITY = 512  # inputs that are remembered; then all are forgotten

    def __init__(self, model: PreTrainedModel, learning: int) -> None:
        """learning: how many of the uppermost layers learn."""
        self.known: dict[tuple[torch.Size, bytes], Tensor] = {}
        self.asked: tuple[torch.Size, bytes] | None = None
        below = layers_of(model)[:-learning]
        if len(below):
            model.register_forward_pre_hook(self._note, with_kwargs=True)
        for place, layer in enumerate(below):
            inner = layer.forward
            layer.forward = partial(self._recall if place + 1 == len(below) else self._skip, inner)

    def _note(self, _: nn.Module, __: object, inputs: dict[str, Any]) -> None:
        tokens = inputs["input_ids"]
        self.asked = (tokens.shape, tokens.cpu().numpy().tobytes())
        if len(self.known) >= self.CAPACITY:
            self.known.clear()

    def _skip(self, inner: Callable[..., Tensor], states: Tensor, *others: Any, **named: Any) -> Tensor:
        return states if self.asked in self.known else inner(states, *others, **named)

    def _recall(self, inner: Callable[..., Tensor], states: Tensor, *others: Any, **named: Any) -> Tensor:
        assert self.asked is not None
        if self.asked not in self.known:
            self.known[self.asked] = inner(states, *others, **named).detach()
        return self.known[self.asked]


@dataclass(frozen=True, eq=False)
class Update:
    """What a training changed. start: theta0 of every tensor that learns, by name; live: the same tensors in use."""

    start: Mapping[str, Tensor]
    live: Mapping[str, Tensor]

    @classmethod
    def from_here(cls, model: nn.Module) -> Update:
        """Remember everything that learns as it is now."""
        live = {name: value for name, value in model.named_parameters() if value.requires_grad}
        return cls({name: value.detach().clone() for name, value in live.items()}, live)

    @torch.no_grad()
    def restore(self) -> None:
        """Put theta0 back."""
        for name, value in self.live.items():
            value.copy_(self.start[name])

    @torch.no_grad()
    def delta(self) -> dict[str, Tensor]:
        """theta - theta0 by name."""
        return {name: value - self.start[name] for name, value in self.live.items()}

    @torch.no_grad()
    def apply(self, delta: Mapping[str, Tensor], mask: Mask | None = None) -> None:
        """Make the model theta0 + mask(delta)."""
        for name, value in self.live.items():
            kept = delta[name] if mask is None else mask(name, delta[name])
            torch.add(self.start[name], kept, out=value.data)


def limits_of(delta: Mapping[str, Tensor], shares: Sequence[float]) -> dict[float, dict[str, float]]:
    """For every share the magnitude from which on an entry is among the `share` of largest ones of its tensor.

    round(share x entries) of them; of entries that tie at the limit all count. No entry reaches an infinite limit.
    """
    found: dict[float, dict[str, float]] = {share: {} for share in shares}
    for name, value in delta.items():
        size = value.detach().abs().flatten().cpu().numpy()
        places = {share: size.size - round(share * size.size) for share in shares}
        size.partition(sorted({place for place in places.values() if place < size.size}) or [0])
        for share, place in places.items():
            found[share][name] = float(size[place]) if place < size.size else math.inf
    return found


def ignore_top(limits: Limits) -> Mask:
    """Drop the entries that reach the limit of their tensor."""
    return lambda name, delta: delta.masked_fill(delta.abs() >= limits[name], 0)


def keep_top(limits: Limits) -> Mask:
    """Keep only the entries that reach the limit of their tensor."""
    return lambda name, delta: delta.masked_fill(delta.abs() < limits[name], 0)


def clip_at(limits: Limits) -> Mask:
    """Bring the entries that exceed the limit of their tensor down to it."""
    return lambda name, delta: delta.clamp(-limits[name], limits[name])


def ignore_random(share: float, stream: torch.Generator) -> Mask:
    """Drop a `share` of entries drawn at random, what `ignore_top` is compared with. stream: on the CPU."""

    def mask(_: str, delta: Tensor) -> Tensor:
        drop = torch.rand(delta.shape, generator=stream) < share
        return delta.masked_fill(drop.to(delta.device), 0)

    return mask


def norm_of(delta: Mapping[str, Tensor]) -> float:
    """Euclidean norm of an update."""
    return float(torch.stack([value.norm() for value in delta.values()]).norm())


def part_of_top(delta: Mapping[str, Tensor], limits: Limits) -> float:
    """Part of an update's squared norm that the entries which reach their limits carry."""
    top = sum(float(keep_top(limits)(name, value).square().sum()) for name, value in delta.items())
    return top / norm_of(delta) ** 2
