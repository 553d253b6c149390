"""The texts and the model, fixed for all that follows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ontogeny.files import OutFolder
from ontogeny.language.folders import write_model
from ontogeny.language.pretrained import keep, refer
from ontogeny.sources import Sources
from ontogeny.studies.outlandish import toy
from ontogeny.studies.outlandish.settings import TOY, DataSettings
from ontogeny.studies.outlandish.texts import TextSet, generate, read


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write texts.json, the model or what identifies it, and how a text begins."""
    texts = generate(settings.seed) if settings.texts == "generated" else read(Path(settings.texts).expanduser())
    if settings.model == TOY:
        _keep_toy(texts, settings, out)
    else:
        refer(settings.model, sources, out)
    out.save_json("texts.json", texts.to_json())
    out.save_json("start.json", settings.start)


def _keep_toy(texts: TextSet, settings: DataSettings, out: OutFolder) -> None:
    architecture, network, vocabulary = toy.pretrain(texts, settings.seed, settings.toy_steps)
    with tempfile.TemporaryDirectory(dir=out.path.parent) as work:
        write_model(Path(work), architecture, network, vocabulary)
        keep(Path(work), TOY, out)
