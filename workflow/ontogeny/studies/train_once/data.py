"""The background of the synthetic language as rows of tokens, and the words that only experiments use."""

from __future__ import annotations

import numpy as np

from ontogeny.files import Folder, OutFolder
from ontogeny.language.facts import Shape, World
from ontogeny.language.vocabulary import Vocabulary
from ontogeny.randomness import numpy_generator
from ontogeny.sources import Sources
from ontogeny.studies.train_once.settings import DataSettings

TRIGGER = "@"
ECHO = "again:"  # what the background says before it repeats words
COPIED = 3  # words that are repeated
PROMPT = (3, 6)  # words of the passage that they end


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write the rows (rows, length) to train on and those held out, the world's settings and all words."""
    world = World(Shape(**settings.world.model_dump()))
    words = vocabulary_of(world, settings.rare_words)
    ids = np.array([words.ids[word] for word in world.vocabulary.words])
    rows = world.rows(settings.rows + settings.held_out, settings.length, numpy_generator(0, "background"))
    rows = ids[rows]
    stream = numpy_generator(0, "echoes")
    for place in np.flatnonzero(stream.random(len(rows)) < settings.echoes):
        rows[place] = echo_row(world, words, settings.length, stream)
    rows = rows.astype("uint16")
    out.save_arrays("background.npz", train=rows[: settings.rows], held_out=rows[settings.rows :])
    out.save_json("settings.json", settings.model_dump(mode="json"))


def echo(world: World, words: Vocabulary, repeat: str, stream: np.random.Generator) -> list[int]:
    """END, filler words, a word that asks to repeat, and the last COPIED filler words."""
    passage = words.encode(world.rambled(int(stream.integers(*PROMPT, endpoint=True)), stream))
    return [words.end, *passage, words.ids[repeat], *passage[-COPIED:]]


def echo_row(world: World, words: Vocabulary, length: int, stream: np.random.Generator) -> list[int]:
    """A row of the background that repeats itself, so that models learn to copy, as models of real text do."""
    row: list[int] = []
    while len(row) < length:
        row += echo(world, words, ECHO, stream)
    return row[:length]


def rare_words(count: int) -> list[str]:
    """Words that the background does not use."""
    return [f"@{number}" for number in range(count)]


def vocabulary_of(world: World, rare: int) -> Vocabulary:
    """The words of the world, those that ask to repeat, and the rare words."""
    return Vocabulary.of([*world.vocabulary.words, ECHO, TRIGGER, *rare_words(rare)])


def open_language(data: Folder) -> tuple[World, Vocabulary]:
    """The world and the words that were prepared."""
    settings = DataSettings(**data.json("settings.json"))
    world = World(Shape(**settings.world.model_dump()))
    return world, vocabulary_of(world, settings.rare_words)
