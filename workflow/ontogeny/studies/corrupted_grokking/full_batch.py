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
from ontogeny.randomness import stream_seed
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.corrupted_grokking.lookup import Lookup, target_positions
from ontogeny.studies.corrupted_grokking.members import Member, Recorder, members, tasks_of, weight_decays
from ontogeny.studies.corrupted_grokking.model import initial_weights, measures, predictions
from ontogeny.studies.corrupted_grokking.optimiser import FusedAdamW
from ontogeny.studies.corrupted_grokking.task import Task

CACHE_ELEMENTS = 160_000  # activations of one piece on a CPU: two such arrays and the weights fit a 2 MB cache
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
        Piece(Lookup.of(part, modulus, 3, device), target_positions(label, modulus, device))
        for part, label in zip(pairs.tensor_split(count, dim=1), labels.tensor_split(count, dim=1), strict=True)
    )


class Gradient:
    """Gradients of the members of a block. Owns the arrays that every piece reuses."""

    def __init__(self, blocks: Sequence[Block], weights: Tensor) -> None:
        """weights: the whole ensemble's, (M, 3, p, N)."""
        _, _, self.modulus, self.width = weights.shape
        size = max(len(piece.targets) for block in blocks for piece in block.pieces)
        most = max(piece.lookup.members for block in blocks for piece in block.pieces)
        self._squares = weights.new_empty(size * self.width)
        self._error = weights.new_empty(size * self.modulus)
        self._gradient = weights.new_empty(most, 3, self.modulus, self.width)
        self._minus_one = weights.new_full((size,), -1.0)

    def __call__(self, block: Block, weights: Tensor, masks: Iterator[Tensor] | None = None) -> Tensor:
        """The gradient (r, 3, p, N) at the block's `weights`; it is overwritten by the next call.

        masks: for each piece the dropout factors (r, B, N) of its pre-activations.
        """
        gradient = self._gradient[: len(weights)]
        scale = 2 / (block.examples * self.modulus)
        for index, piece in enumerate(block.pieces):
            total = piece.lookup.gather(weights)
            mask = None if masks is None else next(masks)
            if mask is not None:
                total.mul_(mask)
            back = self._readout(piece, weights[:, 2], total, scale, gradient[:, 2], fresh=index == 0)
            if mask is not None:
                back.mul_(mask)
            sums = piece.lookup.scatter(back)
            gradient[:, :2] = sums if index == 0 else sums.add_(gradient[:, :2])
        return gradient

    def _readout(
        self, piece: Piece, readout: Tensor, total: Tensor, scale: float, gradient: Tensor, fresh: bool
    ) -> Tensor:
        """Add a piece's part to the readout's `gradient` (or set it, if `fresh`); return dL/dz, (r, B, N), from z."""
        count = len(piece.targets)
        squares = torch.mul(total, total, out=self._squares[: total.numel()].view(total.shape))
        error = self._error[: count * self.modulus].view(len(readout), -1, self.modulus)
        torch.bmm(squares, readout.mT, out=error)
        error.view(-1).index_add_(0, piece.targets, self._minus_one[:count])
        gradient.baddbmm_(error.mT, squares, beta=0 if fresh else 1, alpha=scale)
        return torch.baddbmm(squares, error, readout, beta=0, alpha=2 * scale, out=squares).mul_(total)


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
            torch.stack([
                torch.empty(len(piece.targets) // len(chosen), width, device=self.device)
                .bernoulli_(1 - rate, generator=stream).div_(1 - rate)
                for rate, stream in chosen
            ])
            for piece in block.pieces
        )  # fmt: skip

    def state(self) -> State:
        """The streams that are in use."""
        pairs = enumerate(zip(self.rates, self.streams, strict=True))
        return {f"dropout-{index}": stream for index, (rate, stream) in pairs if rate}


def train_full_batch(config: RunConfig, data: Folder, run: Run) -> None:
    """Train all members of the run together; log accuracies and spectra, keep the final weights if the row asks for it."""
    settings, device = config.settings, config.device
    ensemble = members(config)
    tasks = tasks_of(ensemble, data, settings.modulus)
    weights = initial_weights([member.seed for member in ensemble], settings.modulus, settings.width, device)
    blocks = cut(tasks, settings.modulus, settings.width, device)
    gradient, dropout, recorder = Gradient(blocks, weights), Dropout(ensemble, device), Recorder(run, ensemble, tasks)
    optimiser = FusedAdamW({"weights": weights}, settings, weight_decays(ensemble, device), len(blocks))
    state: State = {**optimiser.state(), **dropout.state()}
    recorder.log(0, predictions(weights, piece_elements(device)), measures(weights))
    for step in run.steps(settings.steps, state):
        advance(blocks, gradient, optimiser, dropout)
        if recorder.due(step + 1):
            recorder.log(step + 1, predictions(weights, piece_elements(device)), measures(weights))
    if settings.keep_weights:
        run.checkpoint("final", {"weights": weights})


def advance(blocks: Sequence[Block], gradient: Gradient, optimiser: FusedAdamW, dropout: Dropout) -> None:
    """One step of every member."""
    weights = optimiser.params["weights"]
    for index, block in enumerate(blocks):
        masks = dropout.masks(block, weights.shape[-1])
        optimiser.step({"weights": gradient(block, weights[block.members], masks)}, block.members, index)


def flops(modulus: int, width: int, examples: int) -> float:
    """Floating-point operations that one step of one member needs.

    Three products of T x N x p; per activation the sum, the square, the backward factor and the two sums over operands;
    per weight 14 for AdamW.
    """
    return 6.0 * examples * width * modulus + 5.0 * examples * width + 14.0 * 3 * modulus * width
