"""Dispatch on the experiment: linear students, spectra, random features, or digits."""

from __future__ import annotations

from ontogeny.files import Folder
from ontogeny.run import Run, RunConfig
from ontogeny.studies.high_dim_generalization.digits import train_digits
from ontogeny.studies.high_dim_generalization.features import train_features
from ontogeny.studies.high_dim_generalization.linear import train_linear, train_spectrum


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Compute one run."""
    experiment = config.settings.experiment
    if experiment == "linear":
        train_linear(config, run)
    elif experiment == "spectrum":
        train_spectrum(config, run)
    elif experiment == "features":
        train_features(config, run)
    else:
        train_digits(config, data, run)
