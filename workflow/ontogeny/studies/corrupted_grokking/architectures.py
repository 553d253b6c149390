"""A three-layer ReLU network and a one-layer Transformer on the same task, as stacks of members, full batch.

Weights are normal with variance 1 / fan-in; no biases, no LayerNorm; the loss is the mean squared error as elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding

from ontogeny.ensemble import per_member
from ontogeny.files import Folder
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig
from ontogeny.studies.corrupted_grokking.members import Recorder, members, tasks_of, weight_decays
from ontogeny.studies.corrupted_grokking.model import participation_ratio
from ontogeny.studies.corrupted_grokking.optimiser import FusedAdamW
from ontogeny.studies.corrupted_grokking.settings import ReluMlp, Transformer

Weights = dict[str, Tensor]
Network = Callable[[Mapping[str, Tensor], Tensor], Tensor]
MLP_FACTOR = 4  # width of the Transformer's MLP over its embedding dimension


def relu_mlp_weights(seeds: Sequence[int], settings: ReluMlp, device: str) -> Weights:
    """Input rows of either operand (M, 2, p, N), hidden layer (M, N, N) and readout (M, p, N)."""
    p, width = settings.modulus, settings.width
    return _draw(seeds, device, {
        "embedding": ((2, p, width), 2 * p), "hidden": ((width, width), width), "readout": ((p, width), width),
    })  # fmt: skip


def relu_mlp(weights: Mapping[str, Tensor], pairs: Tensor) -> Tensor:
    """Outputs (M, B, p) for the pairs (M, B)."""
    first = _tokens(weights["embedding"], pairs).sum(dim=2).relu()
    second = torch.bmm(first, weights["hidden"].mT).relu()
    return torch.bmm(second, weights["readout"].mT)


def transformer_weights(seeds: Sequence[int], settings: Transformer, device: str) -> Weights:
    """Embedding (M, 1, p, d), positions (M, 2, d), attention, MLP and readout (M, p, d)."""
    p, d = settings.modulus, settings.width
    return _draw(seeds, device, {
        "embedding": ((1, p, d), d), "position": ((2, d), d), "query_key_value": ((3 * d, d), d), "mix": ((d, d), d),
        "up": ((MLP_FACTOR * d, d), d), "down": ((d, MLP_FACTOR * d), MLP_FACTOR * d), "readout": ((p, d), d),
    })  # fmt: skip


def transformer(weights: Mapping[str, Tensor], pairs: Tensor, heads: int) -> Tensor:
    """Outputs (M, B, p), read at the second token, for the pairs (M, B). Attention goes in both directions."""
    members, batch = pairs.shape
    stream = _tokens(weights["embedding"], pairs) + weights["position"][:, None]
    d = stream.shape[-1]
    parts = torch.bmm(stream.flatten(1, 2), weights["query_key_value"].mT).view(members, batch, 2, 3, heads, d // heads)
    query, key, value = parts.permute(3, 0, 1, 4, 2, 5)
    pattern = (query @ key.mT / (d // heads) ** 0.5).softmax(dim=-1)
    mixed = (pattern @ value)[..., 1, :].reshape(members, batch, d)
    stream = stream[:, :, 1] + torch.bmm(mixed, weights["mix"].mT)
    stream = stream + torch.bmm(torch.bmm(stream, weights["up"].mT).relu(), weights["down"].mT)
    return torch.bmm(stream, weights["readout"].mT)


def _tokens(table: Tensor, pairs: Tensor) -> Tensor:
    """Rows of m and n, (M, B, 2, width), from tables (M, 1, p, width), shared, or (M, 2, p, width), one per operand."""
    members, tables, modulus, width = table.shape
    operands = torch.stack([pairs // modulus, pairs % modulus + (tables - 1) * modulus], dim=2)
    base = torch.arange(members, device=pairs.device)[:, None, None] * tables * modulus
    return embedding(operands + base, table.view(-1, width))


def _draw(seeds: Sequence[int], device: str, shapes: Mapping[str, tuple[tuple[int, ...], int]]) -> Weights:
    """Normal tensors of variance 1 / fan-in, each from a stream of its own."""
    return {
        name: per_member([generator(seed, "init", name) for seed in seeds], shape, device=device) / fan_in**0.5
        for name, (shape, fan_in) in shapes.items()
    }


def gradients(network: Network, weights: Weights, pairs: Tensor, targets: Tensor) -> Weights:
    """Gradients of every member's mean squared error, in the memory order of the weights, as the optimiser needs them.

    pairs: (M, T). targets: (M, T, p), one-hot.
    """
    tracked = {name: value.detach().requires_grad_() for name, value in weights.items()}
    loss = (network(tracked, pairs) - targets).square().mean(dim=(1, 2)).sum()
    grads = torch.autograd.grad(loss, list(tracked.values()))
    return {name: grad.contiguous() for name, grad in zip(tracked, grads, strict=True)}


def train_architecture(config: RunConfig, data: Folder, run: Run) -> None:
    """Train all members as one stack; log accuracies and the mean IPR of the embedding's columns."""
    settings, ensemble, device = config.settings, members(config), config.device
    tasks = tasks_of(ensemble, data, settings.modulus)
    network, weights = _network([member.seed for member in ensemble], settings, device)
    pairs = torch.stack([task.train for task in tasks]).to(device)
    labels = torch.stack([task.label[task.train] for task in tasks]).to(device)
    targets = torch.nn.functional.one_hot(labels, settings.modulus).float()
    everything = torch.arange(settings.modulus**2, device=device).expand(len(ensemble), -1)
    optimiser = FusedAdamW(weights, settings, weight_decays(ensemble, device))
    recorder = Recorder(run, ensemble, tasks)
    for steps in recorder.stretches(dict(optimiser.state())):
        for _ in steps:
            optimiser.step(gradients(network, weights, pairs, targets))
        with torch.no_grad():
            predicted = network(weights, everything).argmax(dim=2)
        recorder.log(steps.stop, predicted, measures(weights))


def _network(seeds: Sequence[int], settings: ReluMlp | Transformer, device: str) -> tuple[Network, Weights]:
    if isinstance(settings, ReluMlp):
        return relu_mlp, relu_mlp_weights(seeds, settings, device)
    heads = settings.heads
    return lambda weights, pairs: transformer(weights, pairs, heads), transformer_weights(seeds, settings, device)


def measures(weights: Weights) -> dict[str, Tensor]:
    """Mean IPR of the embedding's columns (vectors over 0..p-1), and the norm of all weights, (M,) each."""
    norm = sum(value.square().flatten(1).sum(dim=1) for value in weights.values())
    return {
        "mean_ipr": participation_ratio(weights["embedding"], dim=2).mean(dim=(1, 2)),
        "weight_norm": torch.as_tensor(norm).sqrt(),
    }
