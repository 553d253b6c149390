"""What a study's notebook works with: its tables, its claims, and a place for its figures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Image, display
from matplotlib import pyplot as plt

from ontogeny import plots
from ontogeny.claims import ClaimResult, read_claims
from ontogeny.errors import OntogenyError, did_you_mean
from ontogeny.files import Folder
from ontogeny.study import StudySpec, load_study


class OpenStudy:
    """A study as its notebook sees it. Attributes: spec, scale, tables (by name), claims (by id)."""

    def __init__(self, slug: str, scale: str, folder: Path) -> None:
        self.spec: StudySpec = load_study(slug)
        self.scale = scale
        self.folder = folder
        probes = Folder(folder / "probes")
        self.tables: dict[str, pd.DataFrame] = {name: probes.table(f"{name}.parquet") for name in self.spec.tables}
        self.claims: dict[str, ClaimResult] = read_claims(folder / "claims.json")

    def save(self, figure: plt.Figure, name: str) -> None:
        """Write the declared figure `name` as pdf, svg and png, and show the png in the notebook."""
        if name not in self.spec.figures:
            raise OntogenyError(f"study.yaml declares no figure '{name}'; {did_you_mean(name, self.spec.figures)}")
        (self.folder / "figures").mkdir(parents=True, exist_ok=True)
        plots.save(figure, str(self.folder / "figures" / name))
        plt.close(figure)  # or the notebook would draw it once more
        width = round(figure.get_figwidth() * figure.dpi)
        display(Image(self.folder / "figures" / f"{name}.png", width=width))

    def verdicts(self) -> pd.DataFrame:
        """One row a test: what was asked, what came out, and the verdict."""
        rows = [
            {
                "claim": claim.claim,
                "test": test.test,
                "estimate": test.estimate,
                "low": test.ci_low,
                "high": test.ci_high,
                "criterion": test.criterion,
                "verdict": test.verdict,
                "seeds": test.seeds,
            }
            for claim in self.claims.values()
            for test in claim.tests
        ]
        return pd.DataFrame(rows)


def open_study(snakemake: Any, slug: str) -> OpenStudy:
    """Open a study from its notebook.

    `snakemake` is the object that a `notebook:` rule provides. Without it (the notebook is run by hand) the results of
    the scale named by ONTOGENY_SCALE, by default laptop, are opened under ONTOGENY_RESULTS, by default ../results.
    """
    plots.style()
    if snakemake is not None:
        return OpenStudy(slug, snakemake.wildcards.scale, Path(snakemake.params.folder))
    scale = os.environ.get("ONTOGENY_SCALE", "laptop")
    return OpenStudy(slug, scale, Path(os.environ.get("ONTOGENY_RESULTS", "../results")) / scale / slug)
