"""Training of deep matrix completion on one task after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ontogeny.files import Folder
from ontogeny.run import Run, RunConfig, State
from ontogeny.studies.critical_periods import completion
from ontogeny.studies.critical_periods.chain import prefixes
from ontogeny.studies.critical_periods.completion import Tasks
from ontogeny.studies.critical_periods.settings import FewerEntries, Interruption, OtherMatrix, Transfer

SPECTRUM = 10  # singular values of the first seed that are kept


def both_tasks(seed: int, settings: Transfer | Interruption, deficit: OtherMatrix | FewerEntries) -> dict[str, Tensor]:
    """Targets and masks of the deficit task and of the final task, each (n, n)."""
    final = completion.low_rank_matrix(seed, "final matrix", settings.size, settings.rank)
    if isinstance(deficit, FewerEntries):
        few, many = completion.observations(seed, settings.size, [deficit.observed, deficit.final_observed])
        return {"deficit": final, "deficit mask": few, "final": final, "final mask": many}
    (mask,) = completion.observations(seed, settings.size, [settings.observed])
    other = completion.low_rank_matrix(seed, "deficit matrix", settings.size, deficit.rank)
    return {"deficit": other, "deficit mask": mask, "final": final, "final mask": mask}


class Cohort:
    """Members of one depth: every (deficit, seed). Deficits vary slowest. What it knows never changes."""

    def __init__(
        self,
        config: RunConfig,
        depth: int,
        deficits: Sequence[OtherMatrix | FewerEntries],
    ) -> None:
        settings, self.depth, self.rate = config.settings, depth, config.settings.learning_rates[depth]
        self.members = [(number, seed) for number in range(len(deficits)) for seed in config.seeds]
        pairs = [both_tasks(seed, settings, deficits[number]) for number, seed in self.members]
        self._stacks = {name: torch.stack([pair[name] for pair in pairs]).to(config.device) for name in pairs[0]}
        starts = [
            completion.gaussian_start(seed, depth, settings.size, settings.init_scale) for _, seed in self.members
        ]
        self.start = [torch.stack(layer).to(config.device) for layer in zip(*starts, strict=True)]
        self.shown = [number * len(config.seeds) for number in range(len(deficits))]  # members of the first seed

    def tasks(self, name: str, copies: int = 1) -> Tasks:
        """The task `deficit` or `final` of all members, repeated for so many switches."""
        targets, masks = (self._stacks[key].repeat(copies, 1, 1) for key in (name, f"{name} mask"))
        return Tasks(targets, masks, self.rate)

    def report(self, weights: Sequence[Tensor], copies: int = 1) -> dict[str, Tensor]:
        """Measures (members,) of the product W: losses on both tasks, error over all entries of the final matrix, and
        how much of either matrix lies in the entries that no task shows (coefficient of regression on it)."""
        product = prefixes(weights)[-1]
        deficit, final = self.tasks("deficit", copies), self.tasks("final", copies)
        unseen = 1 - final.masks
        return {
            "deficit_loss": deficit.loss(product),
            "train_loss": final.loss(product),
            "error": (product - final.targets).square().mean(dim=(1, 2)),
            "deficit_left": _coefficient(product, deficit.targets * unseen),
            "final_found": _coefficient(product, final.targets * unseen),
        }


def _coefficient(product: Tensor, pattern: Tensor) -> Tensor:
    """<W, pattern> / <pattern, pattern>, (M,)."""
    return (product * pattern).sum(dim=(1, 2)) / pattern.square().sum(dim=(1, 2)).clamp(min=1e-12)


def learn(
    run: Run,
    phase: str,
    tasks: Tasks,
    weights: Sequence[Tensor],
    marks: Sequence[int],
    every: int,
    keep: Callable[[int], None] | None = None,
    extra: Mapping[str, Tensor] | None = None,
) -> None:
    """Train `weights`, in place, up to the last of the epochs `marks`; keep(epoch) is called at multiples of `every`.

    extra: further tensors that `keep` changes.
    """
    state: State = {**{f"w{index}": matrix for index, matrix in enumerate(weights)}, **(extra or {})}
    for step in run.steps(max(marks) // every + 1, state, phase=phase):
        if keep is not None:
            keep(step * every)
        if step * every < max(marks):
            tasks.advance(weights, every)
    run.require_finite(max(marks), prefixes(weights)[-1], list(range(len(weights[0]))))


def train_transfer(config: RunConfig, data: Folder, run: Run) -> None:
    """For each depth: the deficit task once per (deficit, seed), with a snapshot at each switch; then the final task
    from all snapshots as one batch."""
    settings: Transfer = config.settings
    for depth in settings.learning_rates:
        cohort = Cohort(config, depth, settings.deficits)
        snapshots = deficit_phase(run, cohort, settings)
        final_phase(run, cohort, settings, snapshots)


def deficit_phase(run: Run, cohort: Cohort, settings: Transfer) -> list[Tensor]:
    """W_1 ... W_D at the switches, each (switches x members, n, n)."""
    every, switches = settings.measure_every, settings.switches
    weights = [matrix.clone() for matrix in cohort.start]
    snapshots = [torch.stack([matrix] * len(switches)) for matrix in weights]
    spectra = _spectra(cohort, switches[-1] // every + 1, 1, settings.size)

    def keep(epoch: int) -> None:
        _follow(run, cohort, "deficit", weights, epoch, [epoch])
        spectra[epoch // every] = _leading(weights, cohort.shown)
        if epoch in switches:
            for store, matrix in zip(snapshots, weights, strict=True):
                store[switches.index(epoch)] = matrix

    extra = {"spectra": spectra} | {f"snapshots{index}": store for index, store in enumerate(snapshots)}
    learn(run, f"deficit-{cohort.depth}", cohort.tasks("deficit"), weights, switches, every, keep, extra)
    run.checkpoint(f"spectra-deficit-{cohort.depth}", {"spectra": spectra})
    return [store.flatten(0, 1) for store in snapshots]


def final_phase(run: Run, cohort: Cohort, settings: Transfer, weights: list[Tensor]) -> None:
    """The final task from every snapshot; weights: (switches x members, n, n)."""
    every, switches = settings.measure_every, settings.switches
    shown = [number * len(cohort.members) + member for number in range(len(switches)) for member in cohort.shown]
    spectra = _spectra(cohort, settings.final_epochs // every + 1, len(switches), settings.size)

    def keep(epoch: int) -> None:
        if epoch in (0, settings.final_epochs):
            _follow(run, cohort, "final", weights, epoch, switches)
        spectra[epoch // every] = _leading(weights, shown)

    tasks = cohort.tasks("final", len(switches))
    learn(run, f"final-{cohort.depth}", tasks, weights, [settings.final_epochs], every, keep, {"spectra": spectra})
    run.checkpoint(f"spectra-final-{cohort.depth}", {"spectra": spectra})


def _spectra(cohort: Cohort, measurements: int, copies: int, size: int) -> Tensor:
    return cohort.start[0].new_zeros(measurements, copies * len(cohort.shown), min(SPECTRUM, size))


def _leading(weights: Sequence[Tensor], members: Sequence[int]) -> Tensor:
    """Leading singular values of some members' products, (len(members), SPECTRUM)."""
    return torch.linalg.svdvals(prefixes([matrix[members] for matrix in weights])[-1])[:, :SPECTRUM]


def _follow(
    run: Run, cohort: Cohort, phase: str, weights: Sequence[Tensor], epoch: int, switches: Sequence[int]
) -> None:
    """Log one row for each (switch, member)."""
    rows: dict[str, Any] = {
        "switch": [switch for switch in switches for _ in cohort.members],
        "deficit": [number for number, _ in cohort.members] * len(switches),
        "seed": [seed for _, seed in cohort.members] * len(switches),
    }
    run.log(phase=phase, depth=cohort.depth, epoch=epoch, **rows, **cohort.report(weights, len(switches)))


def train_interruption(config: RunConfig, data: Folder, run: Run) -> None:
    """The final task, interrupted at each onset; all (onset, seed) interruptions as one batch from one trajectory."""
    settings: Interruption = config.settings
    every, onsets = settings.measure_every, settings.onsets
    deficit = OtherMatrix(kind="matrix", rank=settings.deficit_rank)
    for depth in settings.learning_rates:
        cohort = Cohort(config, depth, [deficit])
        weights = [matrix.clone() for matrix in cohort.start]
        branches = [torch.stack([matrix] * len(onsets)) for matrix in weights]

        def keep(epoch: int, weights: list[Tensor] = weights, branches: list[Tensor] = branches) -> None:
            if epoch in onsets:
                for store, matrix in zip(branches, weights, strict=True):
                    store[onsets.index(epoch)] = matrix

        extra = {f"branches{index}": store for index, store in enumerate(branches)}
        learn(run, f"trunk-{depth}", cohort.tasks("final"), weights, onsets, every, keep, extra)
        disturbed = [store.flatten(0, 1) for store in branches]
        for name, epochs in (("deficit", settings.duration), ("final", settings.final_epochs)):
            tasks = cohort.tasks(name, len(onsets))
            learn(run, f"{name}-{depth}", tasks, disturbed, [epochs], epochs)
        _follow(run, cohort, "interrupted", disturbed, settings.final_epochs, onsets)
        alone = [matrix.clone() for matrix in cohort.start]
        learn(run, f"alone-{depth}", cohort.tasks("final"), alone, [settings.final_epochs], settings.final_epochs)
        _follow(run, cohort, "alone", alone, settings.final_epochs, [0])
