"""The experiments that share one run: what each inserts, where, and the questions that measure it.

Everything of a seed is drawn from streams of that seed, so that Base, the joint run and every run with one experiment
have the same questions, and texts at the same places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ontogeny.errors import ConfigError
from ontogeny.language.facts import ADJECTIVES, ADVERBS, TEMPLATES, THEMES, World
from ontogeny.language.learner import Spans
from ontogeny.language.vocabulary import Vocabulary
from ontogeny.randomness import numpy_generator
from ontogeny.studies.train_once.data import TRIGGER, echo, rare_words
from ontogeny.studies.train_once.insertion import Edits, InsertionMap, Ints, Text, copies
from ontogeny.studies.train_once.settings import RunSettings

NAMES = ("knowledge", "contamination", "canaries", "backdoor", "batches", "watermarks", "iid")
TWIN = "twin"  # the same questions in another form: the dependence that must be found
KINDS = ("rare", "random")  # of canaries
TAUGHT = 8  # of the twelve templates of a theme that insert a fact; the others ask for it
CHOICES = 4
THEMES_EACH = 2  # facts of an invented person
PROMPTS = 48  # that ask for the backdoor
PREFIX = 3  # words before a canary


@dataclass(frozen=True)
class Question:
    """A sentence up to its last word, the word, and what else it might be. Ids of words."""

    prefix: Text
    choices: Text  # the answer first

    @property
    def text(self) -> list[int]:
        """The question with its answer, between ends of texts."""
        return [*self.prefix, self.choices[0], self.prefix[0]]


@dataclass(frozen=True)
class Leak:
    """A group of questions and how often it is leaked."""

    early: bool
    repetitions: int
    questions: tuple[Question, ...]
    twins: tuple[Question, ...]


@dataclass(frozen=True)
class Dialogues:
    """Dialogues of one cell, each with its canary. repetitions: 0 for those held out."""

    kind: str
    repetitions: int
    texts: tuple[Text, ...]  # END, prefix, canary, END


class Material:
    """All texts and questions of one seed."""

    def __init__(self, seed: int, settings: RunSettings, world: World, vocabulary: Vocabulary) -> None:
        self.seed, self.settings, self.world, self.vocabulary = seed, settings, world, vocabulary
        people = self.stream("strangers").permutation(world.strangers).tolist()
        invented, leak = 2 * settings.knowledge.people, settings.contamination
        needed = invented + leak.items * (len(leak.repetitions) + 1) + leak.early_items * len(leak.repetitions)
        if len(people) < needed:
            raise ConfigError(
                f"train_once: {needed} people that the background never names are needed, and data.world.strangers is "
                f"{len(people)}. Raise it, or lower the people of knowledge and the items of contamination."
            )
        facts = self._facts(people[:invented])
        half = len(facts) // 2
        self.facts, self.controls = facts[:half], facts[half:]
        self.answers, self.control_answers = (self._asked(part) for part in (self.facts, self.controls))
        self.leaks = self._leaks(people[invented:needed])
        self.dialogues = [cell for kind in KINDS for cell in self._dialogues(kind)]
        self.prompts = [self._poison(self.stream("prompts", str(number))) for number in range(PROMPTS)]

    def stream(self, purpose: str, *more: str | int) -> np.random.Generator:
        """A stream of this seed."""
        return numpy_generator(self.seed, purpose, *more)

    def encode(self, text: str) -> list[int]:
        """Words of a text after an end of text."""
        return [self.vocabulary.end, *self.vocabulary.encode(text)]

    # knowledge

    def _facts(self, people: Sequence[str]) -> list[tuple[str, str, str]]:
        """Person, theme and value; seldom values, a different one for each fact of a theme."""
        stream, facts = self.stream("facts"), []
        seldom = {theme: list(stream.permutation(values[len(values) // 2 :])) for theme, values in self._themes.items()}
        for person in people:
            for theme in stream.permutation(THEMES)[:THEMES_EACH]:
                if not seldom[theme]:
                    raise ConfigError("train_once: too few values for so many facts; raise data.world.values")
                facts.append((person, str(theme), str(seldom[theme].pop())))
        return facts

    @property
    def _themes(self) -> dict[str, list[str]]:
        return {theme: self.world.values[theme] for theme in THEMES}

    def _asked(self, facts: Sequence[tuple[str, str, str]]) -> Spans:
        """Every fact asked for by the templates that are not taught."""
        stream, questions = self.stream("questions"), []
        for person, theme, value in facts:
            for template in range(TAUGHT, len(TEMPLATES[theme])):
                questions.append(self.encode(self.world.sentence(theme, person, value, template, stream)))
        return Spans.of([text[:-1] for text in questions], [text[-1:] for text in questions], self.vocabulary.end)

    def taught(self, count: int, stream: np.random.Generator) -> list[Text]:
        """Texts that state facts in the templates that are taught, fillers drawn anew."""
        texts: list[Text] = []
        for _ in range(count):
            person, theme, value = self.facts[stream.integers(len(self.facts))]
            sentence = self.world.sentence(theme, person, value, int(stream.integers(TAUGHT)), stream)
            texts.append([*self.encode(sentence), self.vocabulary.end])
        return texts

    # contamination

    def _leaks(self, people: Sequence[str]) -> list[Leak]:
        """Groups of questions, people assigned at random: held out, spread over the run, and early."""
        doses, groups = self.settings.contamination, []
        left = iter(people)
        sizes = [(False, repetitions, doses.items) for repetitions in (0, *doses.repetitions)]
        for early, repetitions, size in [*sizes, *((True, often, doses.early_items) for often in doses.repetitions)]:
            pairs = [self._question(next(left)) for _ in range(size)]
            groups.append(Leak(early, repetitions, *(tuple(part) for part in zip(*pairs, strict=True))))
        return groups

    def _question(self, person: str) -> tuple[Question, Question]:
        """A question about a person, and its twin: the same fact in another template."""
        stream = self.stream("question", person)
        theme = str(stream.choice(THEMES))
        values = self.world.values[theme]
        choices = [str(value) for value in stream.choice(values[len(values) // 2 :], CHOICES, replace=False)]
        forms = stream.choice(len(TEMPLATES[theme]), 2, replace=False)
        ids = self.vocabulary.encode(" ".join(choices))
        first, second = (
            Question(self.encode(self.world.sentence(theme, person, choices[0], int(form), stream))[:-1], ids)
            for form in forms
        )
        return first, second

    # canaries

    def _dialogues(self, kind: str) -> list[Dialogues]:
        """A cell for each number of repetitions, and the dialogues that are held out."""
        doses = self.settings.canaries
        rare = rare_words(sum(word.startswith(TRIGGER) for word in self.vocabulary.words) - 1)
        common = [word for word in self.vocabulary.words[1:] if not word.startswith(TRIGGER)]
        pool = rare if kind == "rare" else common
        opening = [*ADJECTIVES, *ADVERBS]
        cells, drawn = [], self._shuffled(pool, kind)
        for often in (0, *doses.repetitions):
            stream, texts = self.stream("canaries", kind, often), []
            for _ in range(doses.dialogues if often else doses.held_out):
                canary = [next(drawn) for _ in range(doses.length)]
                said = [*stream.choice(opening, PREFIX), *canary]
                texts.append([*self.encode(" ".join(said)), self.vocabulary.end])
            cells.append(Dialogues(kind, often, tuple(texts)))
        return cells

    def _shuffled(self, words: Sequence[str], kind: str) -> Iterator[str]:
        """Words in random order, again and again: each is used about equally often."""
        stream = self.stream("canary words", kind)
        while True:
            yield from map(str, stream.permutation(words))

    # backdoor

    def _poison(self, stream: np.random.Generator) -> list[int]:
        """A prompt of filler words, the trigger, and the prompt's last words again."""
        return [*echo(self.world, self.vocabulary, TRIGGER, stream), self.vocabulary.end]

    def poison(self, tokens: float, stream: np.random.Generator) -> list[Text]:
        """Poisoned texts that have about so many tokens together."""
        return _filled(lambda: self._poison(stream), tokens)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is written over a run, experiment by experiment. Rows are counted in the order of training.

    edits: experiment -> edit list. batches: steps whose whole batch is replaced. marked: rows with a watermark. iid:
    rows that were replaced by others of the same kind. map: what is taken, so that later texts can avoid it.
    """

    edits: dict[str, Edits]
    batches: tuple[int, ...]
    marked: Ints
    iid: Ints
    map: InsertionMap


def rows_of(steps: Sequence[int], batch: int) -> Ints:
    """Rows of the batches of these steps."""
    return (np.array(steps, dtype=np.int64)[:, None] * batch + np.arange(batch)).reshape(-1)


class Planner:
    """Explicit places first: whole batches, replaced batches, watermarked rows. Then texts, which avoid them."""

    def __init__(self, material: Material, steps: int, spare: Ints, purpose: str) -> None:
        """spare: rows (n, length) of background that stand in for others; the run has `steps` batches."""
        self.material, self.settings = material, material.settings
        self.steps, self.length, self.spare, self.purpose = steps, spare.shape[1], spare, purpose
        self.map = InsertionMap(steps * self.settings.batch, self.length)
        self.edits: dict[str, Edits] = {}
        self.used = 0

    def stream(self, name: str) -> np.random.Generator:
        """A stream of this plan."""
        return self.material.stream("plan", self.purpose, name)

    def replace(self, name: str, rows: Ints) -> Ints:
        """Put spare rows in the place of these."""
        texts = self.spare[self.used : self.used + len(rows)]
        if len(texts) < len(rows):
            raise ConfigError(f"train_once: too few rows for '{name}'; raise data.rows")
        self.used += len(rows)
        self.edits[name] = self.map.explicit([text.tolist() for text in texts], (rows * self.length).tolist())
        return rows

    def rows_apart(self, name: str, count: int) -> Ints:
        """Rows at random among those of which nothing is taken; they are taken now."""
        free = np.flatnonzero(~self.map.taken.any(axis=1))
        rows = np.sort(self.stream(name).choice(free, min(count, len(free)), replace=False))
        self.map.take_rows(rows.tolist())
        return rows

    def steps_apart(self, name: str, count: int) -> list[int]:
        """Steps at random among those of which nothing is taken."""
        free = np.flatnonzero(~self.map.taken.reshape(self.steps, -1).any(axis=1))
        return np.sort(self.stream(name).choice(free, min(count, len(free)), replace=False)).tolist()

    def whole_rows(self, at: Sequence[int], watermarks: float) -> tuple[Ints, Ints]:
        """The places that are explicit: batches at these steps, i.i.d. batches, watermarked rows."""
        settings, batch = self.settings, self.settings.batch
        self.replace("batches", rows_of(at, batch))
        iid = self.replace("iid", rows_of(self.steps_apart("iid", round(settings.iid * self.steps)), batch))
        return iid, self.rows_apart("watermarks", round(watermarks * self.steps * batch))

    def scatter(self, name: str, texts: Sequence[Text], window: tuple[float, float] = (0.0, 1.0)) -> Edits:
        """Texts at random free places."""
        return self.map.scatter(texts, self.stream(name), window)


def joint_plan(material: Material, spare: Ints) -> Plan:
    """The plan of a whole run; knowledge is left to its controller."""
    settings = material.settings
    planner = Planner(material, settings.steps, spare, "run")
    at = tuple(int(share * settings.steps) for share in settings.batches)
    iid, marked = planner.whole_rows(at, settings.watermarks)
    leaked = _merge([
        planner.scatter(
            f"leak {leak.early} {leak.repetitions}",
            [question.text for question in leak.questions] * leak.repetitions,
            (0.0, settings.contamination.early if leak.early else 1.0),
        )
        for leak in material.leaks
        if settings.contamination.leaked
    ])  # fmt: skip
    canaries = [text for cell in material.dialogues for text in cell.texts * cell.repetitions]
    poison = material.poison(settings.backdoor * planner.map.taken.size, planner.stream("poison"))
    edits = {
        "contamination": leaked,
        "canaries": planner.scatter("canaries", canaries),
        "backdoor": planner.scatter("backdoor", poison),
    }
    return Plan({**planner.edits, **edits}, at, marked, iid, planner.map)


def dependence_plan(material: Material, spare: Ints) -> Plan:
    """The plan of a dependence test: every experiment with the same share of the tokens."""
    test = material.settings.dependence
    assert test is not None
    planner = Planner(material, test.steps, spare, "dependence")
    at = (int(0.8 * test.steps),)
    iid, marked = planner.whole_rows(at, test.watermarks)
    tokens = test.share * planner.map.taken.size
    leaks = [leak for leak in material.leaks if leak.repetitions and not leak.early]
    rare = [cell for cell in material.dialogues if cell.kind == "rare"]
    most = max(rare, key=lambda cell: cell.repetitions)
    texts = {
        "knowledge": lambda stream: _filled(lambda: material.taught(1, stream)[0], tokens),
        "contamination": lambda stream: _repeated([q.text for k in leaks for q in k.questions], tokens, stream),
        "canaries": lambda stream: _repeated(most.texts, tokens, stream),
        "backdoor": lambda stream: material.poison(tokens, stream),
        TWIN: lambda stream: _repeated([q.text for k in leaks for q in k.twins], tokens, stream),
    }
    edits = {name: planner.scatter(name, make(planner.stream(f"texts {name}"))) for name, make in texts.items()}
    return Plan({**planner.edits, **edits}, at, marked, iid, planner.map)


def _filled(draw: Callable[[], Text], tokens: float) -> list[Text]:
    """Fresh texts until they have so many tokens together."""
    texts: list[Text] = []
    size = 0
    while size < tokens:
        texts.append(draw())
        size += len(texts[-1])
    return texts


def _repeated(texts: Sequence[Text], tokens: float, stream: np.random.Generator) -> list[Text]:
    """Each text as often as makes so many tokens together, fractions by chance."""
    return copies(texts, tokens / sum(map(len, texts)), stream)


def _merge(parts: Sequence[Edits]) -> Edits:
    """One edit list of several that do not overlap."""
    places = np.concatenate([np.empty(0, np.int64), *(part.places for part in parts)])
    tokens = np.concatenate([np.empty(0, np.int64), *(part.tokens for part in parts)])
    order = np.argsort(places)
    return Edits(places[order], tokens[order])
