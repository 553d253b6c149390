"""What several studies build on: data and networks that are prepared and trained once.

A base is a folder like a study's, with a ``base.yaml``, settings, data and train, and without probes and claims. A
study names it in its data settings (`ModelData.bases`) and reads it while it prepares its own data.
"""

from __future__ import annotations

from dataclasses import dataclass

from ontogeny.errors import OntogenyError, did_you_mean
from ontogeny.files import Folder
from ontogeny.run import RunFolder
from ontogeny.sources import Sources


@dataclass(frozen=True)
class Base:
    """The data and the finished runs of a base."""

    data: Folder
    runs: tuple[RunFolder, ...]

    def checkpoint(self, row: str, seed: int) -> tuple[RunFolder, int]:
        """The run of `row` that trained `seed`, and the seed's place in it. Raises OntogenyError if there is none."""
        for run in self.runs:
            if run.config.row == row and seed in run.config.seeds:
                return run, run.config.seeds.index(seed)
        have = sorted({(run.config.row, seed) for run in self.runs for seed in run.config.seeds})
        raise OntogenyError(
            f"{self.data.path.parent.name}: no run trained seed {seed} of row '{row}'; there are {have}. Give the base "
            "as many seeds as the study that builds on it."
        )


def open_base(sources: Sources, slug: str) -> Base:
    """The base `slug` of a study. Raises OntogenyError if the study does not build on it."""
    if slug not in sources.bases:
        raise OntogenyError(f"the study does not build on '{slug}': {did_you_mean(slug, sources.bases)}")
    paths = sources.bases[slug]
    return Base(Folder(paths.data), tuple(RunFolder(path) for path in paths.runs))
