"""Full-batch training of the quadratic network, with the gradient by hand, cut into pieces that stay in the cache.

With z = U[m] + V[n], f = W z^2 and the loss L = sum (f - onehot)^2 / (T p) over T examples and p outputs:

    g = 2 (f - onehot) / (T p),   dL/dW = sum g (z^2)^T,   dL/dz = 2 z * (W^T g),   dL/dU[m] = sum of dL/dz over m.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.lookup import Lookup, target_positions
from ontogeny.randomness import stream_seed
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.corrupted_grokking.members import Member, Recorder, members, tasks_of, weight_decays
from ontogeny.studies.corrupted_grokking.model import initial_weights, measures, predictions
from ontogeny.studies.corrupted_grokking.optimiser import FusedAdamW
from ontogeny.studies.corrupted_grokking.settings import FullBatch
from ontogeny.studies.corrupted_grokking.task import Task

CACHE_ELEMENTS = 280_000  # activations of one piece on a CPU, so that it is still in the cache when it is used again
GPU_ELEMENTS = 2**28


def piece_elements(device: str) -> int:
    """How many activations one piece may hold."""
    return CACHE_ELEMENTS if device == "cpu" else GPU_ELEMENTS


@dataclass(frozen=True)
class Piece:
    """Examples that go through the products together: B of each of the r members of a block.

    targets: (r B,) positions of the trained-on answers in the outputs (r, B, p).
    """

    lookup: Lookup
    targets: Tensor


@dataclass(frozen=True)
class Block:
    """Consecutive members that are advanced together, and the pieces that make up their training sets of T examples."""

    members: slice
    pieces: tuple[Piece, ...]
    examples: int


def cut(tasks: Sequence[Task], modulus: int, width: int, device: str) -> list[Block]:
    """Cut the ensemble into blocks of members with equally large training sets, and large training sets into pieces."""
    blocks, start = [], 0
    while start < len(tasks):
        examples = len(tasks[start].train)
        fit = max(1, piece_elements(device) // (examples * width))
        stop = start + 1
        while stop < min(start + fit, len(tasks)) and len(tasks[stop].train) == examples:
            stop += 1
        pieces = _pieces(tasks[start:stop], -(-examples * width // piece_elements(device)), modulus, device)
        blocks.append(Block(slice(start, stop), pieces, examples))
        start = stop
    return blocks


def _pieces(tasks: Sequence[Task], count: int, modulus: int, device: str) -> tuple[Piece, ...]:
    """The training sets of a block, in `count` pieces."""
    pairs = torch.stack([task.train for task in tasks])
    labels = torch.stack([task.label[task.train] for task in tasks])
    return tuple(
        Piece(Lookup.of(part, modulus, 3, device), target_positions(label, modulus).to(device))
        for part, label in zip(pairs.tensor_split(count, dim=1), labels.tensor_split(count, dim=1), strict=True)
    )


class Arrays:
    """Flat arrays that all blocks of an ensemble share: one block is advanced at a time."""

    def __init__(self, blocks: Sequence[Block], weights: Tensor) -> None:
        """weights: the whole ensemble's, (M, 3, p, N)."""
        _, _, modulus, width = weights.shape
        size = max(len(piece.targets) for block in blocks for piece in block.pieces)
        members = max(block.members.stop - block.members.start for block in blocks)
        self.squares = weights.new_empty(size * width)
        self.error = weights.new_empty(size * modulus)
        self.gradient = weights.new_empty(members, 3, modulus, width)
        self.minus_one = weights.new_full((size,), -1.0)


class BlockGradient:
    """The gradient of one block's members. Views of weights and arrays are made once, not at every step."""

    def __init__(self, block: Block, weights: Tensor, arrays: Arrays) -> None:
        """weights: the whole ensemble's, (M, 3, p, N); they may change in place between calls."""
        _, _, modulus, width = weights.shape
        self.block = block
        self.weights = weights[block.members]
        self.readout = self.weights[:, 2]
        self.result = arrays.gradient[: len(self.weights)]
        self.operands, self.answers = self.result[:, :2], self.result[:, 2]
        self.scale = 2 / (block.examples * modulus)
        self.views = []
        for piece in block.pieces:
            count = len(piece.targets)
            squares = arrays.squares[: count * width].view(len(self.weights), -1, width)
            error = arrays.error[: count * modulus]
            self.views.append((squares, error, error.view(len(self.weights), -1, modulus), arrays.minus_one[:count]))

    def __call__(self, masks: Iterator[Tensor] | None = None) -> Tensor:
        """The gradient (r, 3, p, N) at the present weights; it is overwritten by the next call.

        masks: for each piece the dropout factors (r, B, N) of its pre-activations.
        """
        for index, piece in enumerate(self.block.pieces):
            total = piece.lookup.gather(self.weights)
            mask = None if masks is None else next(masks)
            if mask is not None:
                total.mul_(mask)
            back = self._through_readout(index, total)
            if mask is not None:
                back.mul_(mask)
            sums = piece.lookup.scatter(back)
            torch.add(self.operands, sums, out=self.operands) if index else self.operands.copy_(sums)
        return self.result

    def _through_readout(self, index: int, total: Tensor) -> Tensor:
        """Add the part of piece number `index` to the readout's gradient; return dL/dz from z = `total`, (r, B, N)."""
        squares, flat, error, minus_one = self.views[index]
        torch.mul(total, total, out=squares)
        torch.bmm(squares, self.readout.mT, out=error)
        flat.index_add_(0, self.block.pieces[index].targets, minus_one)
        self.answers.baddbmm_(error.mT, squares, beta=1 if index else 0, alpha=self.scale)
        return torch.baddbmm(squares, error, self.readout, beta=0, alpha=2 * self.scale, out=squares).mul_(total)


class Dropout:
    """Dropout factors, zero or 1 / (1 - rate), from one stream a member on the ensemble's device."""

    def __init__(self, ensemble: Sequence[Member], device: str) -> None:
        self.rates = [member.dropout for member in ensemble]
        seeds = [stream_seed(member.seed, "dropout") for member in ensemble]
        self.streams = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.device = device

    def masks(self, block: Block, width: int) -> Iterator[Tensor] | None:
        """The factors (r, B, N) for the pieces of `block`; None if its members have no dropout."""
        chosen = list(zip(self.rates, self.streams, strict=True))[block.members]
        if not any(rate for rate, _ in chosen):
            return None
        return (
            torch.stack([self._draw(len(piece.targets) // len(chosen), width, *member) for member in chosen])
            for piece in block.pieces
        )

    def _draw(self, examples: int, width: int, rate: float, stream: torch.Generator) -> Tensor:
        """Factors (examples, N) of one member."""
        kept = torch.rand(examples, width, generator=stream, device=self.device) >= rate
        return kept.to(torch.float32).div_(1 - rate)

    def state(self) -> State:
        """The streams that are in use."""
        pairs = enumerate(zip(self.rates, self.streams, strict=True))
        return {f"dropout-{index}": stream for index, (rate, stream) in pairs if rate}


class Ensemble:
    """All members of a run, with their optimiser."""

    def __init__(self, ensemble: Sequence[Member], tasks: Sequence[Task], settings: FullBatch, device: str) -> None:
        self.device = device
        self.weights = initial_weights([member.seed for member in ensemble], settings.modulus, settings.width, device)
        self.dropout = Dropout(ensemble, device)
        blocks = cut(tasks, settings.modulus, settings.width, device)
        arrays = Arrays(blocks, self.weights)
        self.gradients = [BlockGradient(block, self.weights, arrays) for block in blocks]
        self.optimiser = FusedAdamW({"weights": self.weights}, settings, weight_decays(ensemble, device), len(blocks))

    def advance(self, steps: int) -> None:
        """Train every member for `steps` steps. Block after block: what a block needs stays in the cache meanwhile."""
        for index, gradient in enumerate(self.gradients):
            block = gradient.block
            for _ in range(steps):
                masks = self.dropout.masks(block, self.weights.shape[-1])
                self.optimiser.step({"weights": gradient(masks)}, block.members, index)

    def predicted(self) -> Tensor:
        """The answer to each of the p^2 pairs, (M, p^2)."""
        return predictions(self.weights, piece_elements(self.device))

    def state(self) -> State:
        """All that a resumed training needs."""
        return {**self.optimiser.state(), **self.dropout.state()}


def train_full_batch(config: RunConfig, data: Folder, run: Run) -> None:
    """Train all members of the run; log accuracies and spectra, keep the final weights if the row asks for it."""
    settings, everyone = config.settings, members(config)
    tasks = tasks_of(everyone, data, settings.modulus)
    ensemble, recorder = Ensemble(everyone, tasks, settings, config.device), Recorder(run, everyone, tasks)
    recorder.log(0, ensemble.predicted(), measures(ensemble.weights))
    for steps in recorder.stretches(ensemble.state()):
        ensemble.advance(len(steps))
        recorder.log(steps.stop, ensemble.predicted(), measures(ensemble.weights))
    if settings.keep_weights:
        run.checkpoint("final", {"weights": ensemble.weights})


def flops(modulus: int, width: int, examples: int) -> float:
    """Floating-point operations that one step of one member needs.

    Three products of T x N x p; per activation the sum, the square, the backward factor and the two sums over operands;
    per weight 14 for AdamW.
    """
    return 6.0 * examples * width * modulus + 5.0 * examples * width + 14.0 * 3 * modulus * width
