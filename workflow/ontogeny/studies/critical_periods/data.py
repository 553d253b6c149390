"""The hierarchical task of the two-pathway networks: eight items, fifteen binary features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ontogeny.files import OutFolder
from ontogeny.sources import Sources
from ontogeny.studies.critical_periods.settings import FEATURES, ITEMS, DataSettings


def hierarchy() -> NDArray[np.float64]:
    """Y, (15 features, 8 items): one feature of all items, two of halves, four of quarters, eight of single items."""
    levels = [np.kron(np.eye(groups), np.ones(ITEMS // groups)) for groups in (1, 2, 4, 8)]
    return np.concatenate(levels)


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write task.npz: features Y (15, 8), its singular values `strengths` (8,), and `targets` S = U^T Y V (15, 8)."""
    features = hierarchy()
    strengths = np.linalg.svd(features, compute_uv=False)
    targets = np.zeros((FEATURES, ITEMS))
    np.fill_diagonal(targets, strengths)
    out.save_arrays("task.npz", features=features, strengths=strengths, targets=targets)
