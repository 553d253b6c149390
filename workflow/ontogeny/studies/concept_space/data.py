"""What is behind the true images on which the read-out of the concepts is checked."""

from __future__ import annotations

from ontogeny.files import OutFolder
from ontogeny.randomness import generator
from ontogeny.sources import Sources
from ontogeny.studies.concept_space.images import draw_factors
from ontogeny.studies.concept_space.settings import DataSettings


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write renders.npz with `factors` (4, renders, FACTORS), one row a class."""
    factors = draw_factors(4 * settings.renders, generator(0, "renders"))
    out.save_arrays("renders.npz", factors=factors.reshape(4, settings.renders, -1).numpy())
