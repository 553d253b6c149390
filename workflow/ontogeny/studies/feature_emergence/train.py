"""Multiplication tables -> trained ensembles, or the theorems' experiments on fixed weights."""

from __future__ import annotations

from ontogeny.files import Folder
from ontogeny.run import Run, RunConfig
from ontogeny.studies.feature_emergence.grokking import train_grokking
from ontogeny.studies.feature_emergence.theory import train_theory


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Do what the row's experiment says."""
    {"grokking": train_grokking, "theory": train_theory}[config.settings.experiment](config, data, run)
