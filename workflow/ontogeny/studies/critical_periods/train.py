"""The experiments of the study, by the name that a row of the sweep gives."""

from __future__ import annotations

from ontogeny.files import Folder
from ontogeny.run import Run, RunConfig
from ontogeny.studies.critical_periods.equations import train_equations
from ontogeny.studies.critical_periods.gating import train_pathways
from ontogeny.studies.critical_periods.portrait import train_portrait
from ontogeny.studies.critical_periods.transfer import train_interruption, train_transfer

EXPERIMENTS = {
    "portrait": train_portrait,
    "pathways": train_pathways,
    "transfer": train_transfer,
    "interruption": train_interruption,
    "equations": train_equations,
}


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Do the experiment of the row."""
    EXPERIMENTS[config.settings.experiment](config, data, run)
