"""Initial weights of deep linear networks, each a list of matrices (out, in) from input to output."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ontogeny.randomness import generator
from ontogeny.run import Run, State
from ontogeny.studies.deep_linear.settings import Greedy
from ontogeny.studies.deep_linear.tasks import DTYPE, Task

CHECK_EVERY = 5  # iterations of an autoencoder between looks at its error


def random_orthogonal(rows: int, columns: int, stream: torch.Generator) -> Tensor:
    """A Haar-distributed matrix (rows, columns) with orthonormal rows or columns, whichever are fewer."""
    tall = torch.randn(max(rows, columns), min(rows, columns), generator=stream, dtype=DTYPE)
    factor, triangle = torch.linalg.qr(tall)
    factor = factor * torch.sign(torch.diagonal(triangle))  # without it, QR's sign convention would bias the draw
    return factor if rows >= columns else factor.T


def orthogonal(widths: Sequence[int], seed: int) -> list[Tensor]:
    """Random orthogonal weights (semi-orthogonal where widths differ)."""
    stream = generator(seed, "orthogonal", len(widths))
    return [random_orthogonal(rows, columns, stream) for columns, rows in pairwise(widths)]


def gaussian(widths: Sequence[int], seed: int, sd: float | None = None) -> list[Tensor]:
    """Normal weights of standard deviation `sd`; None: 1/sqrt(inputs of the layer), which keeps norms on average."""
    stream = generator(seed, "gaussian", len(widths))
    return [
        torch.randn(rows, columns, generator=stream, dtype=DTYPE) * (columns**-0.5 if sd is None else sd)
        for columns, rows in pairwise(widths)
    ]


def decoupled(task: Task, widths: Sequence[int], seed: int, strength: float) -> list[Tensor]:
    """W_l = R_(l+1) D R_l^T, D = u0^(1/n): all modes at strength u0, on the manifold where they do not interact.

    R_1 holds the right and R_(n+1) the left singular vectors of the optimum; the others are random orthonormal.
    """
    modes, stream = len(task.strengths), generator(seed, "decoupled", len(widths))
    left, _, right = torch.linalg.svd(task.optimum, full_matrices=False)
    middle = [random_orthogonal(width, modes, stream) for width in widths[1:-1]]
    frames = [right[:modes].T, *middle, left[:, :modes]]
    size = strength ** (1 / (len(widths) - 1))
    return [size * after @ before.T for before, after in pairwise(frames)]


def pretrained(
    run: Run, phase: str, covariances: Tensor, widths: Sequence[int], seeds: Sequence[int], greedy: Greedy
) -> tuple[list[Tensor], Tensor]:
    """Greedy unsupervised pretraining of all hidden layers, for all seeds as one batch.

    Layer by layer, a three-layer autoencoder learns the activity of the layer below from small random weights, and
    its first matrix is kept. covariances: (M, inputs, inputs), of the inputs. widths: of the input and the hidden
    layers. Returns the matrices, (M, out, in) each, and the iterations spent, (M,).
    """
    kept, spent = [], torch.zeros(len(seeds), dtype=torch.int64, device=covariances.device)
    for layer, width in enumerate(widths[1:], start=1):
        streams = [generator(seed, "autoencoder", layer) for seed in seeds]
        trained, iterations = _autoencoder(run, f"{phase}-{layer:03d}", covariances, width, streams, greedy)
        kept.append(trained)
        spent += iterations
        covariances = trained @ covariances @ trained.mT
    return kept, spent


def _autoencoder(
    run: Run, phase: str, covariances: Tensor, hidden: int, streams: list[torch.Generator], greedy: Greedy
) -> tuple[Tensor, Tensor]:
    """First weights (M, hidden, inputs) of trained linear autoencoders, and the iterations that each took, (M,)."""
    size, inputs, _ = covariances.shape
    device = covariances.device
    drawn = [_small_pair(hidden, inputs, stream, greedy.start_sd) for stream in streams]
    first, second = (torch.stack(matrices).to(device) for matrices in zip(*drawn, strict=True))
    active = torch.ones(size, dtype=torch.bool, device=device)
    spent = torch.zeros(size, dtype=torch.int64, device=device)
    variances = torch.linalg.eigvalsh(covariances)
    goal = variances[:, : max(inputs - hidden, 0)].sum(dim=1) + greedy.tolerance * variances.sum(dim=1)
    state: State = {"first": first, "second": second, "active": active, "spent": spent}
    for step in run.steps(greedy.iterations, state, phase=phase):
        error = covariances - torch.bmm(second, torch.bmm(first, covariances))
        if step % CHECK_EVERY == 0:
            deviation = torch.eye(inputs, dtype=DTYPE, device=device) - torch.bmm(second, first)
            active &= (error * deviation).sum(dim=(1, 2)) > goal
            if not active.any():
                run.stop()
        spent += active
        error.mul_(greedy.rate * active[:, None, None])
        back = torch.bmm(second.mT, error)
        second.baddbmm_(error, first.mT)
        first.add_(back)
    return first, spent


def _small_pair(hidden: int, inputs: int, stream: torch.Generator, sd: float) -> tuple[Tensor, Tensor]:
    """Random first and second weights of an autoencoder."""
    first = sd * torch.randn(hidden, inputs, generator=stream, dtype=DTYPE)
    return first, sd * torch.randn(inputs, hidden, generator=stream, dtype=DTYPE)
