"""Tables of a user's model -> its figures."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from ontogeny.files import Folder, OutFolder
from ontogeny.plots import save, style
from ontogeny.rooms import part


def draw(study: str, examination: Path, out: Path) -> None:
    """Draw the figures of an examination into the folder `out`, with captions.json: figure -> caption."""
    mpl.use("agg")
    style()
    folder = Folder(examination)
    tables = {
        name.removesuffix(".parquet"): folder.table(name) for name in folder.manifest if name.endswith(".parquet")
    }
    target = OutFolder(out)
    captions = {}
    for name, (figure, caption) in part(study, "own_figures").draw(tables).items():
        save(figure, str(target.work / name))
        captions[name] = caption
    target.save_json("captions.json", captions)
    target.publish()
