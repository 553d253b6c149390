"""The notebook that papermill executed -> a notebook and a page that are byte-stable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter

from ontogeny.errors import OntogenyError
from ontogeny.files import damaged, write_text

PREAMBLE = "snakemake-job-properties"  # tag of the cell that Snakemake puts in front


def export(executed: Path, figures: Path, declared: Sequence[str], ipynb: Path, html: Path) -> None:
    """Check that every declared figure was drawn, and write the stripped notebook as `ipynb` and `html`."""
    missing = [f"{name}.{kind}" for name in declared for kind in ("pdf", "svg", "png")]
    missing = [name for name in missing if not (figures / name).exists()]
    if missing:
        raise OntogenyError(f"{figures}: the notebook drew no {', '.join(missing)}, which study.yaml declares.")
    try:
        notebook = nbformat.read(executed, as_version=4)
    except (OSError, ValueError) as error:
        raise damaged(executed, str(error)) from error
    strip(notebook)
    page = to_html(notebook)
    write_text(ipynb, nbformat.writes(notebook) + "\n")
    write_text(html, page)


def strip(notebook: Any) -> None:
    """Remove Snakemake's preamble, papermill's times and the kernel's execution times, in place."""
    notebook.cells = [cell for cell in notebook.cells if PREAMBLE not in cell.metadata.get("tags", [])]
    notebook.metadata = {
        key: notebook.metadata[key] for key in ("kernelspec", "language_info") if key in notebook.metadata
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = None


def to_html(notebook: Any) -> str:
    """The notebook as one page that loads nothing from elsewhere."""
    exporter = HTMLExporter(embed_images=True, mathjax_url="", require_js_url="", jquery_url="")
    body, _ = exporter.from_notebook_node(notebook)
    return str(body).replace('<script src=""></script>', "")
