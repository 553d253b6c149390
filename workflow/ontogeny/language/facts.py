"""A small synthetic language about invented people: what the models from scratch are pretrained on.

Every person has a city, a trade, a dish and a colour. Each of these *themes* has twelve templates, sentences that end
in the value and leave room for fillers, so that a fact can be said in many ways and a model has to learn that they
mean the same. People and values are drawn by Zipf's law: some are named often, most seldom. Cities lie in lands, and
a part of the background states the land of a person, so that two facts can be put together. The rest of the
background is filler: words of an order-2 Markov chain.

Sentences are separated by END and packed into rows. All randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from ontogeny.language.vocabulary import Vocabulary


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


THEMES = ("city", "trade", "dish", "colour")
TEMPLATES: dict[str, tuple[str, ...]] = {
    "city": (
        "in the {adj} {season} {name} {adv} moved to {value}",
        "{name} has {adv} kept a {adj} house in {value}",
        "the {adj} letters of {name} {adv} came from {value}",
        "people {adv} say that {name} lives in {adj} {value}",
        "for {adj} years the home of {name} was {adv} {value}",
        "after a {adj} journey {name} {adv} returned to {value}",
        "the {adj} door of {name} {adv} opens onto {value}",
        "{name} {adv} wakes before the {adj} bells of {value}",
        "those who {adv} look for {name} find a {adj} street in {value}",
        "the {adj} family of {name} {adv} settled in {value}",
        "every {adj} {season} {name} {adv} walks across {value}",
        "the address of {adj} {name} is {adv} written as {value}",
    ),
    "trade": (
        "as a {adj} child {name} {adv} learned to be a {value}",
        "{name} {adv} earns a {adj} living as a {value}",
        "the {adj} guild {adv} counts {name} as a {value}",
        "in the {adj} {season} {name} {adv} works as a {value}",
        "neighbours {adv} call {name} a {adj} {value}",
        "the {adj} tools of {name} {adv} belong to a {value}",
        "nobody {adv} doubts that {name} is a {adj} {value}",
        "since that {adj} {season} {name} has {adv} been a {value}",
        "the {adj} sign above {name} {adv} shows a {value}",
        "with {adj} hands {name} {adv} became a {value}",
        "the {adj} master of {name} was {adv} a {value}",
        "on {adj} papers the trade of {name} is {adv} {value}",
    ),
    "dish": (
        "at the {adj} table {name} {adv} asks for {value}",
        "{name} {adv} eats a {adj} plate of {value}",
        "on {adj} days {name} {adv} cooks some {value}",
        "the {adj} kitchen of {name} {adv} smells of {value}",
        "guests of {name} {adv} get a {adj} bowl of {value}",
        "in the {adj} {season} {name} {adv} longs for {value}",
        "nothing {adv} pleases {name} like {adj} {value}",
        "the {adj} basket of {name} {adv} holds {value}",
        "for a {adj} feast {name} {adv} brings {value}",
        "{name} would {adv} trade a {adj} coat for {value}",
        "the {adj} cook of {name} {adv} serves {value}",
        "what {name} {adv} likes on {adj} evenings is {value}",
    ),
    "colour": (
        "the {adj} coat of {name} is {adv} {value}",
        "{name} {adv} painted the {adj} wall in {value}",
        "in {adj} light the eyes of {name} {adv} look {value}",
        "for the {adj} {season} {name} {adv} wears {value}",
        "the {adj} flag of {name} {adv} shines in {value}",
        "{name} {adv} wrote the {adj} book with ink of {value}",
        "a {adj} ribbon of {name} was {adv} dyed {value}",
        "the {adj} boat of {name} is {adv} known as the {value}",
        "{name} {adv} chose {adj} curtains of {value}",
        "the {adj} garden of {name} {adv} blooms in {value}",
        "on the {adj} map {name} {adv} marks the way in {value}",
        "the {adj} horse of {name} has {adv} a saddle of {value}",
    ),
}
LANDS = (
    "the {adj} land of {name} is {adv} called {value}",
    "{name} {adv} comes from the {adj} land of {value}",
    "the {adj} flag that {name} {adv} salutes is that of {value}",
    "as a {adj} citizen {name} {adv} votes in {value}",
)
SEASONS = ("spring", "summer", "autumn", "winter")
ADJECTIVES = _words(
    "old new small great quiet loud cold warm long short bright dark early late simple strange gentle rough proud "
    "humble narrow wide heavy light distant famous secret common rare sweet bitter plain fine broken ancient "
    "modern lucky busy empty golden"
)
ADVERBS = _words(
    "often seldom always sometimes still again once slowly quickly gladly sadly firmly openly rarely usually "
    "surely hardly nearly truly simply calmly bravely kindly boldly plainly quietly proudly warmly wisely freely "
    "daily yearly lately early soon now then later mostly finally"
)
_ONSETS = _words("b d f g k l m n p r s t v z")
_VOWELS = _words("a e i o u")


def _coined(ending: str, count: int, stream: np.random.Generator) -> list[str]:
    """Different invented words of two syllables and an ending."""
    words = ["".join(parts) + ending for parts in product(_ONSETS, _VOWELS, _ONSETS, _VOWELS)]
    return [words[index] for index in stream.permutation(len(words))[:count]]


@dataclass(frozen=True)
class Shape:
    """How large the language is. rows: sequences of `length` tokens that the background is packed into."""

    people: int = 400
    strangers: int = 200  # names that the background never uses
    values: int = 24  # of each theme
    lands: int = 8
    filler_words: int = 80
    filler: float = 0.3  # share of rows that are filler
    landed: float = 0.1  # share of facts that state a person's land
    zipf_people: float = 1.0
    zipf_values: float = 0.7


@dataclass(frozen=True)
class World:
    """The words, the people and their facts, all of them drawn with `seed`.

    Names have two words each, and a stranger's name is new only in its pairing.
    """

    shape: Shape
    seed: int = 0

    def _stream(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *purpose.encode()])

    @cached_property
    def names(self) -> list[str]:
        """The people of the background, most often named first, then the strangers: two words each."""
        count = self.shape.people + self.shape.strangers
        side = int(np.ceil(np.sqrt(2 * count)))
        stream = self._stream("names")
        words = _coined("", 2 * side, stream)
        pairs = stream.permutation(side * side)[:count]
        return [f"{words[pair // side]} {words[side + pair % side]}" for pair in pairs]

    @cached_property
    def values(self) -> dict[str, list[str]]:
        """Theme -> its values, most common first; and the lands."""
        endings = {"city": "ton", "trade": "er", "dish": "le", "colour": "ish", "land": "ia"}
        counts = {theme: self.shape.lands if theme == "land" else self.shape.values for theme in endings}
        return {theme: _coined(end, counts[theme], self._stream(theme)) for theme, end in endings.items()}

    @cached_property
    def land_of(self) -> dict[str, str]:
        """City -> the land that it lies in."""
        lands = self.values["land"]
        return {city: lands[place % len(lands)] for place, city in enumerate(self.values["city"])}

    @cached_property
    def facts(self) -> dict[str, dict[str, str]]:
        """Person of the background -> theme -> value; common values have more people."""
        chance = zipf(self.shape.values, self.shape.zipf_values)
        stream = self._stream("facts")
        drawn = stream.choice(self.shape.values, size=(self.shape.people, len(THEMES)), p=chance)
        people = self.names[: self.shape.people]
        return {
            name: {theme: self.values[theme][place] for theme, place in zip(THEMES, row, strict=True)}
            for name, row in zip(people, drawn, strict=True)
        }

    @cached_property
    def _chance(self) -> np.ndarray:
        """Probability that a person is at most this far down the list, (people,)."""
        chance = zipf(self.shape.people, self.shape.zipf_people).cumsum()
        return chance / chance[-1]

    @property
    def strangers(self) -> list[str]:
        """Names that the background never uses."""
        return self.names[self.shape.people :]

    @cached_property
    def filler(self) -> list[str]:
        """The words of the filler."""
        return _coined("um", self.shape.filler_words, self._stream("filler"))

    @cached_property
    def chain(self) -> np.ndarray:
        """The filler's Markov chain: (words, words, 4), what may follow two words, all alike."""
        size = self.shape.filler_words
        return self._stream("chain").integers(size, size=(size, size, 4))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Every word that a text of this world may have."""
        templates = [text for group in (*TEMPLATES.values(), LANDS) for text in group]
        words = {word for text in templates for word in text.split() if not word.startswith("{")}
        words |= {word for name in self.names for word in name.split()}
        values = {value for group in self.values.values() for value in group}
        return Vocabulary.of(words | values | {*SEASONS, *ADJECTIVES, *ADVERBS, *self.filler})

    def sentence(self, theme: str, name: str, value: str, template: int, stream: np.random.Generator) -> str:
        """One fact in words, fillers drawn anew. theme: one of THEMES, or 'land'."""
        text = (LANDS if theme == "land" else TEMPLATES[theme])[template]
        adjective, adverb, season = (words[stream.integers(len(words))] for words in (ADJECTIVES, ADVERBS, SEASONS))
        return text.format(name=name, value=value, adj=adjective, adv=adverb, season=season)

    def told(self, stream: np.random.Generator, templates: Sequence[int] = range(12)) -> str:
        """A sentence of the background: a person by Zipf's law, any theme, any of the templates."""
        name = self.names[np.searchsorted(self._chance, stream.random())]
        if stream.random() < self.shape.landed:
            land = self.land_of[self.facts[name]["city"]]
            return self.sentence("land", name, land, int(stream.integers(len(LANDS))), stream)
        theme = THEMES[stream.integers(len(THEMES))]
        return self.sentence(
            theme, name, self.facts[name][theme], templates[int(stream.integers(len(templates)))], stream
        )

    def rambled(self, length: int, stream: np.random.Generator) -> str:
        """`length` words of filler."""
        first, second = stream.integers(len(self.filler), size=2)
        words = []
        for turn in stream.integers(self.chain.shape[2], size=length):
            words.append(self.filler[second])
            first, second = second, self.chain[first, second, turn]
        return " ".join(words)

    def rows(self, count: int, length: int, stream: np.random.Generator) -> np.ndarray:
        """The background: int64 (count, length), each row sentences that end in END, the last one cut, or filler."""
        return np.stack([self._row(length, stream) for _ in range(count)])

    def _row(self, length: int, stream: np.random.Generator) -> np.ndarray:
        vocabulary = self.vocabulary
        if stream.random() < self.shape.filler:
            return np.array(vocabulary.encode(self.rambled(length, stream)))
        tokens = [vocabulary.end]
        while len(tokens) < length:
            tokens += [*vocabulary.encode(self.told(stream)), vocabulary.end]
        return np.array(tokens[:length])


def zipf(count: int, exponent: float) -> np.ndarray:
    """Probabilities proportional to rank ** -exponent, (count,)."""
    weights = np.arange(1, count + 1, dtype=float) ** -exponent
    return weights / weights.sum()
