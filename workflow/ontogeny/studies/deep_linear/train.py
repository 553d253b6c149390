"""The experiments: which networks are trained on what, and what is logged of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.run import Run, RunConfig
from ontogeny.studies.deep_linear import starts
from ontogeny.studies.deep_linear.data import CLASSES
from ontogeny.studies.deep_linear.deep import Criterion, Members, Watch, race
from ontogeny.studies.deep_linear.settings import Depth, Grid, Jacobian, Learner, Pretraining, Products, Tree
from ontogeny.studies.deep_linear.spectra import train_jacobian, train_products
from ontogeny.studies.deep_linear.tasks import Task, correlated_task, whitened_task
from ontogeny.studies.deep_linear.theory import predicted_rate
from ontogeny.studies.deep_linear.tree import train_tree


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Do the experiment of the run's row."""
    settings = config.settings
    if isinstance(settings, Tree):
        train_tree(config, run)
    elif isinstance(settings, Products):
        train_products(config, run)
    elif isinstance(settings, Jacobian):
        train_jacobian(config, run)
    elif isinstance(settings, Depth):
        train_depth(config, data, run)
    else:
        train_pretraining(config, data, run)


def multiples(grid: Grid) -> Tensor:
    """The rates of a grid in multiples of the predicted rate, and at the end that rate itself: (points + 1,)."""
    powers = torch.linspace(0, 1, grid.points, dtype=torch.float64)
    return torch.cat([grid.lowest * (grid.highest / grid.lowest) ** powers, torch.ones(1, dtype=torch.float64)])


def rate_table(tasks: Sequence[Task], matrices: int, factors: Tensor) -> Tensor:
    """Learning rates (seeds, rates): `factors` times the predicted rate of each task's strongest mode."""
    strongest = torch.stack([task.strengths[0] for task in tasks])
    return torch.from_numpy(predicted_rate(strongest.numpy(), matrices))[:, None] * factors


def layer_widths(settings: Learner, layers: int) -> list[int]:
    """Neurons of every layer."""
    return [settings.components, *[settings.hidden] * (layers - 2), CLASSES]


def batches(seeds: int, widths: Sequence[int], rates: int, megabytes: float) -> Iterator[slice]:
    """Slices of consecutive seeds whose weights (all rates) fit into so many megabytes, at least one seed each."""
    size = 4e-6 * rates * sum(a * b for a, b in pairwise(widths))
    together = max(1, int(megabytes / size))
    return (slice(first, min(first + together, seeds)) for first in range(0, seeds, together))


def train_depth(config: RunConfig, data: Folder, run: Run) -> None:
    """Time the learning of whitened MNIST at every depth, for a grid of rates; log one row per depth, seed and rate."""
    settings: Depth = config.settings
    blocks = data.arrays("mnist.npz")
    tasks = [whitened_task(blocks, seed, settings.components) for seed in config.seeds]
    run.checkpoint("tasks", {f"s-{seed}": task.strengths for seed, task in zip(config.seeds, tasks, strict=True)})
    criterion = Criterion(settings.threshold, settings.hold, settings.iterations)
    stack, factors = _greedy_stack(config, run), multiples(settings.rates)
    last_rate = len(factors) - 1 if settings.start == "decoupled" else None
    for layers in settings.layers:
        widths = layer_widths(settings, layers)
        for part in batches(len(tasks), widths, len(factors), settings.batch_mb):
            numbers = range(part.start, part.stop)
            weights = [_start(settings, tasks[i], widths, config.seeds[i], [w[i] for w in stack]) for i in numbers]
            rates = rate_table(tasks[part], layers - 1, factors)
            members = Members(tasks[part], weights, rates, config.device)
            times = race(run, f"layers-{layers:03d}-{part.start:03d}", members, criterion, last_rate)
            _log_times(run, times, rates, factors, config.seeds[part], layers=layers)


def _start(settings: Depth, task: Task, widths: list[int], seed: int, stack: list[Tensor]) -> list[Tensor]:
    """Initial weights of one network."""
    if settings.initial_strength is not None:
        return starts.decoupled(task, widths, seed, settings.initial_strength)
    if settings.start == "gaussian":
        return starts.gaussian(widths, seed)
    matrices = starts.orthogonal(widths, seed)
    return [*stack[: len(matrices) - 1], matrices[-1].to(stack[0])] if stack else matrices


def _greedy_stack(config: RunConfig, run: Run) -> list[Tensor]:
    """Pretrained hidden layers of the deepest network, (M, out, in) each; shallower networks use the lowest of them."""
    settings: Depth = config.settings
    if settings.pretraining is None:
        return []
    identity = torch.eye(settings.components, dtype=starts.DTYPE, device=config.device)
    widths = layer_widths(settings, max(settings.layers))[:-1]
    covariances = identity.repeat(len(config.seeds), 1, 1)
    return starts.pretrained(run, "pretrain", covariances, widths, config.seeds, settings.pretraining)[0]


def train_pretraining(config: RunConfig, data: Folder, run: Run) -> None:
    """Time the learning of MNIST from a random and from a pretrained start; log one row per start, seed and rate."""
    settings: Pretraining = config.settings
    blocks, mismatched = data.arrays("mnist.npz"), settings.task == "mismatched"
    tasks = [correlated_task(blocks, seed, settings.components, mismatched) for seed in config.seeds]
    widths, factors = layer_widths(settings, settings.layers), multiples(settings.rates)
    criterion = Criterion(settings.threshold, settings.hold, settings.iterations)
    for part in batches(len(tasks), widths, len(factors), settings.batch_mb):
        seeds, rates = config.seeds[part], rate_table(tasks[part], settings.layers - 1, factors)
        for start, weights, spent in _both_starts(config, run, tasks[part], seeds, widths, f"{part.start:03d}"):
            members = Members(tasks[part], weights, rates, config.device)
            watch = _curve(run, start, settings.curve_every, len(factors)) if part.start == 0 else None
            times = race(run, f"{start}-{part.start:03d}", members, criterion, watch=watch)
            costs = spent.repeat_interleave(len(factors))
            _log_times(run, times, rates, factors, seeds, start=start, task=settings.task, pretraining=costs)


def _both_starts(
    config: RunConfig, run: Run, tasks: Sequence[Task], seeds: Sequence[int], widths: list[int], part: str
) -> Iterator[tuple[str, list[list[Tensor]], Tensor]]:
    """(name, weights of every seed, iterations of pretraining of every seed) for the random and the greedy start."""
    settings: Pretraining = config.settings
    random = [[w.to(config.device) for w in starts.gaussian(widths, seed, settings.start_sd)] for seed in seeds]
    yield "random", random, torch.zeros(len(seeds), dtype=torch.int64)
    covariances = torch.stack([task.covariance for task in tasks if task.covariance is not None]).to(config.device)
    stack, spent = starts.pretrained(run, f"pretrain-{part}", covariances, widths[:-1], seeds, settings.pretraining)
    yield "pretrained", [[*(w[i] for w in stack), random[i][-1]] for i in range(len(seeds))], spent


def _curve(run: Run, start: str, every: int, rates: int) -> Watch:
    """Logs the excess errors of the first seed's members."""

    def watch(step: int, excess: Tensor, members: Tensor) -> None:
        shown = members < rates
        if step % every == 0 and shown.any():
            run.log(kind="curve", start=start, step=step, rate_number=members[shown], excess=excess[shown])

    return watch


def _log_times(run: Run, times: Tensor, rates: Tensor, factors: Tensor, seeds: Sequence[int], **labels: object) -> None:
    """One row per seed and rate: `rates` and `times` are (seeds, rates), `factors` (rates,)."""
    count = len(factors)
    run.log(
        kind="time", seed=[seed for seed in seeds for _ in range(count)], rate_number=list(range(count)) * len(seeds),
        rate=rates.flatten(), multiple=factors.repeat(len(seeds)), time=times.flatten(), **labels,
    )  # fmt: skip
