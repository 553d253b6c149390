"""The task tables of modular addition."""

from __future__ import annotations

import numpy as np

from ontogeny.files import OutFolder
from ontogeny.sources import Sources
from ontogeny.studies.corrupted_grokking.settings import DataSettings


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write addition-p<modulus>.npz for each modulus p, with answer[m, n] = (m + n) mod p, shape (p, p)."""
    for modulus in settings.moduli:
        residues = np.arange(modulus, dtype=np.int64)
        answer = (residues[:, None] + residues[None, :]) % modulus
        out.save_arrays(f"addition-p{modulus}.npz", answer=answer)
