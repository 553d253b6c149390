"""Task tables -> trained ensembles. Each kind of experiment has a module of its own."""

from __future__ import annotations

from ontogeny.files import Folder
from ontogeny.run import Run, RunConfig
from ontogeny.studies.corrupted_grokking.architectures import train_architecture
from ontogeny.studies.corrupted_grokking.full_batch import train_full_batch
from ontogeny.studies.corrupted_grokking.minibatch import train_minibatch

EXPERIMENTS = {
    "full_batch": train_full_batch,
    "minibatch": train_minibatch,
    "relu_mlp": train_architecture,
    "transformer": train_architecture,
}


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Train one member for each point of the row's lists and each seed of the run."""
    EXPERIMENTS[config.settings.experiment](config, data, run)
