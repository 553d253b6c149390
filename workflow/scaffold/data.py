"""The data of the study: here, the curvature of the loss."""

from __future__ import annotations

import numpy as np

from ontogeny.files import OutFolder
from ontogeny.sources import Sources
from ontogeny.studies.@slug@.settings import DataSettings


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write loss.npz with `curvature`, shape ()."""
    out.save_arrays("loss.npz", curvature=np.asarray(settings.curvature))
