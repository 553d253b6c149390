"""Minibatch training of the quadratic network, with and without BatchNorm between the square and the readout.

Both sorts of member go through the same program: f = W a, with a = gamma (z^2 - mean) / sd + beta over the batch, or
a = z^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.lookup import target_positions
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.corrupted_grokking.full_batch import piece_elements
from ontogeny.studies.corrupted_grokking.members import Member, Recorder, members, tasks_of, weight_decays
from ontogeny.studies.corrupted_grokking.model import initial_weights, measures, predictions
from ontogeny.studies.corrupted_grokking.optimiser import FusedAdamW
from ontogeny.studies.corrupted_grokking.settings import Minibatch
from ontogeny.studies.corrupted_grokking.task import Task

MOMENTUM, EPS = 0.1, 1e-5  # of BatchNorm's running statistics; added to the batch variance


class Batches:
    """Minibatches from an endless stream of shuffled epochs, which depends on the seed alone."""

    def __init__(self, ensemble: Sequence[Member], tasks: Sequence[Task], size: int) -> None:
        self.seeds = [member.seed for member in ensemble]
        self.tasks = tasks
        self.size = size
        self.epochs: list[dict[int, Tensor]] = [{} for _ in tasks]

    def __call__(self, step: int) -> Tensor:
        """The pairs of batch number `step`, (M, B)."""
        return torch.stack([self._member(index, step * self.size) for index in range(len(self.tasks))])

    def _member(self, index: int, start: int) -> Tensor:
        train = self.tasks[index].train
        first, last = start // len(train), (start + self.size - 1) // len(train)
        shuffled = torch.cat([self._epoch(index, epoch) for epoch in range(first, last + 1)])
        return shuffled[start - first * len(train) :][: self.size]

    def _epoch(self, index: int, epoch: int) -> Tensor:
        known = self.epochs[index]
        if epoch not in known:
            known.pop(epoch - 2, None)
            train = self.tasks[index].train
            known[epoch] = train[torch.randperm(len(train), generator=generator(self.seeds[index], "order", epoch))]
        return known[epoch]


@dataclass
class BatchNorm:
    """Trainable scale and shift, and running statistics, of the hidden neurons: (M, 1, N) each."""

    scale: Tensor
    shift: Tensor
    mean: Tensor
    variance: Tensor

    @classmethod
    def initial(cls, members: int, width: int, device: str) -> BatchNorm:
        """Scale 1, shift 0, mean 0, variance 1."""
        one, zero = torch.ones(members, 1, width, device=device), torch.zeros(members, 1, width, device=device)
        return cls(one, zero, zero.clone(), one.clone())

    def forward(self, squares: Tensor) -> tuple[Tensor, Tensor]:
        """Batch-normalised `squares` (M, B, N) before scale and shift, and 1 / sd; updates the running statistics."""
        variance, mean = torch.var_mean(squares, dim=1, correction=0, keepdim=True)
        size = squares.shape[1]
        self.mean.lerp_(mean, MOMENTUM)
        self.variance.lerp_(variance * (size / (size - 1)), MOMENTUM)
        inverse = torch.rsqrt(variance + EPS)
        return (squares - mean).mul_(inverse), inverse

    def backward(self, back: Tensor, normal: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dL/dz^2 (M, B, N), dL/dscale and dL/dshift (M, 1, N) from `back` = dL/da (Ioffe & Szegedy 2015, sec. 3)."""
        size = back.shape[1]
        scale = (back * normal).sum(dim=1, keepdim=True)
        shift = back.sum(dim=1, keepdim=True)
        return (back - shift / size).addcmul_(normal, scale / size, value=-1).mul_(self.scale * inverse), scale, shift

    def folded(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The network at evaluation: weights with the scale in the readout, and the constant outputs (M, 1, p)."""
        factor = self.scale * torch.rsqrt(self.variance + EPS)
        constant = torch.bmm(self.shift - factor * self.mean, weights[:, 2].mT)
        return torch.cat([weights[:, :2], (weights[:, 2] * factor)[:, None]], dim=1), constant

    def tensors(self) -> dict[str, Tensor]:
        """The four tensors by name."""
        return {"scale": self.scale, "shift": self.shift, "mean": self.mean, "variance": self.variance}


def gradient(pairs: Tensor, labels: Tensor, weights: Tensor, norm: BatchNorm | None) -> dict[str, Tensor]:
    """Gradients of the mean squared error over a batch, by name of the parameter.

    pairs, labels: (M, B) pair numbers and trained-on answers. weights: (M, 3, p, N). norm: None for the plain network.
    """
    members, _, modulus, width = weights.shape
    base = torch.arange(members, device=weights.device)[:, None] * 3 * modulus
    first, second = (base + pairs // modulus).flatten(), (base + modulus + pairs % modulus).flatten()
    table = weights.view(-1, width)
    total = table[first].add_(table[second]).view(members, -1, width)
    squares = total.square()
    normal, inverse = norm.forward(squares) if norm else (squares, None)
    active = torch.addcmul(norm.shift, normal, norm.scale) if norm else squares
    error = torch.bmm(active, weights[:, 2].mT)
    error.view(-1).index_add_(0, target_positions(labels, modulus), error.new_full((labels.numel(),), -1.0))
    error.mul_(2 / error[0].numel())
    grads = {"weights": torch.zeros_like(weights)}
    torch.bmm(error.mT, active, out=grads["weights"][:, 2])
    back = torch.bmm(error, weights[:, 2])
    if norm and inverse is not None:
        back, grads["scale"], grads["shift"] = norm.backward(back, normal, inverse)
    back.mul_(total).mul_(2)
    for rows in (first, second):
        grads["weights"].view(-1, width).index_add_(0, rows, back.view(-1, width))
    return grads


class MinibatchEnsemble:
    """Members that all have BatchNorm, or all lack it, with their optimiser."""

    def __init__(self, ensemble: Sequence[Member], tasks: Sequence[Task], settings: Minibatch, device: str) -> None:
        self.members, self.tasks, self.device = list(ensemble), list(tasks), device
        self.weights = initial_weights([member.seed for member in ensemble], settings.modulus, settings.width, device)
        with_norm = self.members[0].batch_norm
        self.norm = BatchNorm.initial(len(self.members), settings.width, device) if with_norm else None
        trainable = {"scale": self.norm.scale, "shift": self.norm.shift} if self.norm else {}
        decay = weight_decays(ensemble, device)
        self.optimiser = FusedAdamW({"weights": self.weights, **trainable}, settings, decay)
        self.batches = Batches(ensemble, tasks, settings.batch_size)
        self.labels = torch.stack([task.label for task in tasks])

    def advance(self, step: int) -> None:
        """Train on batch number `step`."""
        pairs = self.batches(step)
        labels = self.labels.gather(1, pairs)
        self.optimiser.step(gradient(pairs.to(self.device), labels.to(self.device), self.weights, self.norm))

    def predicted(self) -> Tensor:
        """The answer to each of the p^2 pairs, (M, p^2), with the running statistics."""
        elements = piece_elements(self.device)
        if self.norm is None:
            return predictions(self.weights, elements)
        weights, constant = self.norm.folded(self.weights)
        return predictions(weights, elements, constant)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and BatchNorm."""
        return {"weights": self.weights, **(self.norm.tensors() if self.norm else {})}

    def state(self) -> State:
        """All that a resumed training needs."""
        return {**self.optimiser.state(), **self.tensors()}


def train_minibatch(config: RunConfig, data: Folder, run: Run) -> None:
    """Train the members with and those without BatchNorm, one stack after the other; log, keep the final weights."""
    settings, everyone = config.settings, members(config)
    for with_norm in settings.batch_norm:
        chosen = [member for member in everyone if member.batch_norm == with_norm]
        tasks = tasks_of(chosen, data, settings.modulus)
        ensemble = MinibatchEnsemble(chosen, tasks, settings, config.device)
        recorder = Recorder(run, chosen, tasks)
        name = "batchnorm" if with_norm else "plain"
        for steps in recorder.stretches(ensemble.state(), phase=name):
            for step in steps:
                ensemble.advance(step)
            recorder.log(steps.stop, ensemble.predicted(), measures(ensemble.weights))
        if settings.keep_weights:
            run.checkpoint(name, ensemble.tensors())
