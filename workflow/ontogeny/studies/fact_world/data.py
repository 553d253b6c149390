"""The background of the synthetic language, as rows of tokens."""

from __future__ import annotations

from ontogeny.files import OutFolder
from ontogeny.language.facts import Shape, World
from ontogeny.randomness import numpy_generator
from ontogeny.sources import Sources
from ontogeny.studies.fact_world.settings import DataSettings


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write the rows (rows, length) to train on and those held out, and the settings that rebuild the world."""
    world = World(Shape(**settings.world.model_dump()))
    rows = world.rows(settings.rows + settings.held_out, settings.length, numpy_generator(0, "background"))
    rows = rows.astype("uint16")
    out.save_arrays("background.npz", train=rows[: settings.rows], held_out=rows[settings.rows :])
    out.save_json("world.json", settings.world.model_dump())
    out.save_json("vocabulary.json", list(world.vocabulary.words))
