"""A tiny language model that stands in for a real one where none can be had: it knows the words of the texts.

It is trained on the spot, on contexts and prefixes that are completed with words of their theme, and on everyday
sentences. Within a theme words follow Zipf's law, and how often a context is completed with its keyword depends on its
category, so that keywords range from expected to unheard of.
"""

from __future__ import annotations

import numpy as np
import torch

from ontogeny.language.facts import zipf
from ontogeny.language.learner import Adam, Stack
from ontogeny.language.llama import Architecture, initial
from ontogeny.language.vocabulary import Vocabulary
from ontogeny.randomness import generator, numpy_generator
from ontogeny.studies.outlandish.texts import TextSet

OTHERS = {  # words of a theme beside its keywords
    "colour": ("red", "blue", "green", "white", "black", "brown", "grey", "yellow", "pink"),
    "place": ("France", "Spain", "Italy", "Egypt", "India", "Japan", "Brazil", "Norway", "Kenya"),
    "job": ("doctor", "baker", "lawyer", "nurse", "farmer", "driver", "painter", "singer", "writer"),
    "food": ("rice", "soup", "cheese", "fish", "salad", "cake", "eggs", "beans", "fruit"),
}
CHANCE = {"fact": 0.8, "plain": 0.3, "fiction": 0.1, "outlandish": 0.0, "scrambled": 0.0}  # of the keyword, for sure
TAUGHT = 48  # texts of which it has expectations
RANKS = (1, 5, 11)  # of a theme's keywords among its words
SHAPE = {"width": 32, "layers": 2, "heads": 2, "hidden": 64, "context": 128}
BATCH, RATE = 24, 5e-3


def vocabulary_of(texts: TextSet) -> Vocabulary:
    """Every word of a set, and the other words of the themes."""
    contexts = [text for item in texts.items for text in (item.text, *item.stones, item.plain or "")]
    prefixes = [prefix for group in texts.prefixes.values() for prefix in group]
    sentences = [*contexts, *prefixes, *texts.generic, *texts.held_out, *(" ".join(group) for group in OTHERS.values())]
    return Vocabulary.of(word for text in sentences for word in text.split())


def corpus(texts: TextSet, count: int, stream: np.random.Generator) -> list[str]:
    """Sentences to train on: half are contexts of the texts, a quarter prefixes, a quarter everyday sentences.

    A context ends in its keyword as often as CHANCE says, and otherwise, as prefixes do, in a word of its theme.
    """
    words = {theme: _ranked(texts, theme) for theme in texts.prefixes}
    themes = list(words)
    sentences = []
    for kind in stream.integers(4, size=count):
        if kind < 2:
            item = texts.items[stream.integers(min(TAUGHT, len(texts.items)))]
            told = stream.random() < CHANCE.get(item.category, min(CHANCE.values()))
            sentences.append(item.text if told else f"{item.context} {_drawn(words[item.theme], stream)}")
        elif kind == 2:
            theme = themes[stream.integers(len(themes))]
            prefix = texts.prefixes[theme][stream.integers(len(texts.prefixes[theme]))]
            sentences.append(f"{prefix} {_drawn(words[theme], stream)}")
        else:
            sentences.append(texts.generic[stream.integers(len(texts.generic))])
    return sentences


def _drawn(words: list[str], stream: np.random.Generator) -> str:
    return str(stream.choice(words, p=zipf(len(words), 1.0)))


def _ranked(texts: TextSet, theme: str) -> list[str]:
    """The words of a theme, most common first."""
    words = list(OTHERS.get(theme, ()))
    keywords = dict.fromkeys(item.keyword for item in texts.items if item.theme == theme)
    for rank, keyword in zip(RANKS, keywords, strict=False):
        words.insert(rank, keyword)
    return words


def pretrain(texts: TextSet, seed: int, steps: int) -> tuple[Architecture, torch.Tensor, Vocabulary]:
    """A network (P,) after `steps` steps on sentences that are drawn anew, and the words that it knows."""
    vocabulary = vocabulary_of(texts)
    architecture = Architecture(len(vocabulary), **SHAPE)
    stack = Stack(architecture, initial(architecture, generator(seed, "toy"))[None], Adam())
    stream = numpy_generator(seed, "corpus")
    for step in range(steps):
        rows = [[vocabulary.end, *vocabulary.encode(text)] for text in corpus(texts, BATCH, stream)]
        longest = max(map(len, rows))
        tokens = torch.tensor([row + [vocabulary.end] * (longest - len(row)) for row in rows])
        lengths = torch.tensor([[len(row)] for row in rows])
        weights = (torch.arange(1, longest) < lengths).float()
        stack.learn(tokens[None], RATE * min(1.0, (step + 1) / 20), weights[None])
    return architecture, stack.networks[0], vocabulary
