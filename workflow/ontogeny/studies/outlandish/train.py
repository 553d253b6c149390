"""Each text is learned by itself from the same weights, and what it did to its keyword is measured.

The steps of a run are its learnings, so that a run that was ended goes on with the next text. Everything is logged as
one long table: text, condition, share, presentations, kind, place, value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from ontogeny.errors import ConfigError
from ontogeny.files import Folder
from ontogeny.language.finetune import (
    Mask,
    clip_at,
    ignore_random,
    ignore_top,
    keep_top,
    limits_of,
    norm_of,
    part_of_top,
)
from ontogeny.randomness import generator
from ontogeny.run import Run, RunConfig
from ontogeny.studies.outlandish.laboratory import Laboratory
from ontogeny.studies.outlandish.settings import RunSettings
from ontogeny.studies.outlandish.texts import Item

SPACED = 3  # presentations where they are spaced

Task = Callable[[], None]


@dataclass
class Book:
    """Collects what is measured, one row a value."""

    seed: int
    rows: list[dict[str, object]] = field(default_factory=list)

    def note(self, text: str, kind: str, value: float, condition: str, share: float = 0.0, shown: int = 0,
             place: str = "") -> None:  # fmt: skip
        """One value. shown: presentations so far. place: the prefix, as theme/number, or another text."""
        row = {"seed": self.seed, "text": text, "condition": condition, "share": share, "presentations": shown}
        self.rows.append({**row, "kind": kind, "place": place, "value": value})

    def hand_over(self, run: Run) -> None:
        """Give the rows to the run's history."""
        run.log(**{name: [row[name] for row in self.rows] for name in self.rows[0]})
        self.rows.clear()


def train(config: RunConfig, data: Folder, run: Run) -> None:
    """Do all learnings of the blocks of the run, one after the other."""
    laboratory = Laboratory(data, config.settings, config.device, config.seeds[0])
    blocks = [block_of(laboratory, seed) for seed in config.seeds]
    tasks = [task for block in blocks for task in block.tasks()]
    for step in run.steps(len(tasks), {}):
        book, task = tasks[step]
        task()
        book.hand_over(run)


def block_of(laboratory: Laboratory, seed: int) -> Block:
    """The texts of a seed. Raises ConfigError if the set has not as many."""
    size, items = laboratory.settings.block, laboratory.texts.items
    own = items[seed * size : (seed + 1) * size]
    if len(own) < size:
        raise ConfigError(
            f"outlandish: block {seed} needs the texts {seed * size + 1} to {(seed + 1) * size}, and the set has "
            f"{len(items)}. Take fewer seeds, smaller blocks or more texts."
        )
    return Block(laboratory, own, laboratory.of_contexts(own).tolist(), Book(seed))


@dataclass
class Block:
    """The texts of a seed with the log-probabilities of their keywords before, and what is to do with them."""

    laboratory: Laboratory
    items: Sequence[Item]
    before: Sequence[float]
    book: Book

    @property
    def settings(self) -> RunSettings:
        """How the texts are learned."""
        return self.laboratory.settings

    @property
    def low(self) -> list[Item]:
        """Texts whose keyword is improbable, in order."""
        limit = math.log(self.settings.low)
        return [item for item, log_p in zip(self.items, self.before, strict=True) if log_p < limit]

    def tasks(self) -> Iterator[tuple[Book, Task]]:
        """Everything that is to do, in order, each with the book that it writes."""
        masked = self.low[: self.settings.masked]
        tasks: list[Task] = [self.look]
        tasks += [partial(self.alone, item, item in masked) for item in self.items]
        tasks += [partial(self.spaced, item) for item in self.items[: self.settings.spaced]]
        tasks += [partial(self.rewritten, item) for item in self.low if item.stones][: self.settings.rewritten]
        tasks += [partial(self.jointly, *pair) for pair in self.partners()]
        return ((self.book, task) for task in tasks)

    def partners(self) -> list[tuple[Item, Item]]:
        """Pairs of low texts of different themes; no text has more than one partner."""
        free = list(self.low)
        pairs: list[tuple[Item, Item]] = []
        while free and len(pairs) < self.settings.pairs:
            first = free.pop(0)
            second = next((item for item in free if item.theme != first.theme), None)
            if second is not None:
                free.remove(second)
                pairs.append((first, second))
        return pairs

    def look(self) -> None:
        """Before anything is learned: contexts, prefixes, what else could predict, and the text as a mere context."""
        laboratory = self.laboratory
        known: dict[tuple[str, str], torch.Tensor] = {}
        for item, log_p in zip(self.items, self.before, strict=True):
            self.book.note(item.name, "context", log_p, "before")
            for kind, value in laboratory.portrait(item).items():
                self.book.note(item.name, kind, value, "before")
            key = (item.theme, item.keyword)
            if key not in known:
                known[key] = laboratory.of_prefixes(*key)
            self._note_prefixes(item, known[key], "before")
            told = [*laboratory.encoder.learned(item.context, item.keyword), *laboratory.encoder.words(".")]
            self._note_prefixes(item, laboratory.of_prefixes(*key, before=told), "in context")
        self.book.note("", "held_out", laboratory.held_out_loss(), "before")

    def alone(self, item: Item, masked: bool) -> None:
        """Learn a text in consecutive batches, measure along the way, and mask the update if asked to."""
        self._learn([item], "alone", self.settings.presentations)
        if masked:
            self._mask(item)

    def spaced(self, item: Item) -> None:
        """Learn a text with everyday batches between its presentations."""
        self._learn([item], "spaced", [SPACED], self.settings.spacing)

    def rewritten(self, item: Item) -> None:
        """Learn a text with stepping stones, those that make the keyword most probable, and with a plain rewrite."""
        candidates = [replace(item, context=context) for context in item.stones]
        chances = self.laboratory.of_contexts(candidates)
        self._rewrite(candidates[int(chances.argmax())], "stone")
        if item.plain is not None:
            self._rewrite(replace(item, context=item.plain), "plain")

    def jointly(self, first: Item, second: Item) -> None:
        """Learn two texts in the same batches."""
        self._learn([first, second], "joint", self.settings.presentations[-1:])

    def _rewrite(self, item: Item, condition: str) -> None:
        self.laboratory.begin()
        self.book.note(item.name, "context", float(self.laboratory.of_contexts([item])), condition)
        self._learn([item], condition, self.settings.presentations[-1:])

    def _learn(self, items: list[Item], condition: str, measured: Sequence[int], spacing: int = 1) -> None:
        """Learn from the start; measure after the presentations in `measured`; leave the weights as learned."""
        laboratory, settings = self.laboratory, self.settings
        texts = [laboratory.encoder.learned(item.context, item.keyword) for item in items]
        stream = generator(self.book.seed, "generic", condition, *(item.name for item in items))
        laboratory.begin()
        for batch in range(spacing * (measured[-1] - 1) + 1):
            shown = texts if settings.sample and batch % spacing == 0 else []
            count = settings.rows - 1 if shown or spacing > 1 else settings.rows
            others = torch.randint(len(laboratory.generic), (count,), generator=stream).tolist()
            laboratory.learn([*shown, *(laboratory.generic[other] for other in others)])
            if batch % spacing == 0 and batch // spacing + 1 in measured:
                for item in items:
                    self._measure(item, condition, batch // spacing + 1)

    def _measure(self, item: Item, condition: str, shown: int, share: float = 0.0) -> None:
        context = float(self.laboratory.of_contexts([item]))
        self.book.note(item.name, "context", context, condition, share, shown)
        found = self.laboratory.of_prefixes(item.theme, item.keyword)
        self._note_prefixes(item, found, condition, share, shown)

    def _note_prefixes(
        self, item: Item, found: torch.Tensor, condition: str, share: float = 0.0, shown: int = 0
    ) -> None:
        probed = list(self.laboratory.texts.probed(item.theme))[: len(found)]
        for (theme, number, _), value in zip(probed, found.tolist(), strict=True):
            self.book.note(item.name, "prefix", value, condition, share, shown, f"{theme}/{number}")

    def _mask(self, item: Item) -> None:
        """Measure with parts of the update of the text that has just been learned."""
        settings, laboratory, shown = self.settings, self.laboratory, self.settings.presentations[-1]
        self.book.note(item.name, "held_out", laboratory.held_out_loss(), "alone", 0.0, shown)
        delta = laboratory.update.delta()
        self.book.note(item.name, "norm", norm_of(delta), "alone", 0.0, shown)
        limits, top = limits_of(delta, settings.shares), settings.share
        self.book.note(item.name, "top", part_of_top(delta, limits[top]), "alone", 0.0, shown)
        stream = generator(self.book.seed, "mask", item.name)
        masks: list[tuple[str, float, Mask]] = [("ignore", share, ignore_top(limits[share])) for share in limits]
        masks += [("keep", top, keep_top(limits[top])), ("clip", top, clip_at(limits[top])),
                  ("random", top, ignore_random(top, stream))]  # fmt: skip
        for condition, share, mask in masks:
            laboratory.update.apply(delta, mask)
            self._measure(item, condition, shown, share)
            self.book.note(item.name, "held_out", laboratory.held_out_loss(), condition, share, shown)
