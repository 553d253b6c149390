"""The whole study on a user's language model."""

from __future__ import annotations

from ontogeny.own import Examination
from ontogeny.own_study import whole_study
from ontogeny.studies.outlandish.own_settings import OwnSettings

DATA = ("model", "texts", "start")
SWEEP = ("block", "learns", "layers", "learning_rate")


def examine(settings: OwnSettings, device: str) -> Examination:
    """Priming, masks, stepping stones and the other claims, on texts that the user's model learns."""
    said = settings.model_dump()
    few = {name: min(settings.block, 5) for name in ("spaced", "masked", "rewritten")}
    row = {**{name: said[name] for name in SWEEP}, **few}
    data = {name: said[name] for name in DATA}
    return whole_study("outlandish", {"seeds": settings.blocks, "data": data, "sweep": {"main": row}})
