"""Where texts are written over the tokens of a run: explicit places first, then random ones that avoid all others.

A run is rows of `length` tokens, in the order in which they are trained on. A text lies inside one row. What is written
is kept as an edit list, so that one array of tokens serves every version of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ontogeny.errors import ConfigError

Ints = NDArray[np.int64]
Text = Sequence[int]
TRIES = 500  # random places that are tried for one text before all free ones are listed


@dataclass(frozen=True, eq=False)
class Edits:
    """Tokens and their places, (n,) each. Place p is column p % length of row p // length; places ascend."""

    places: Ints
    tokens: Ints

    @classmethod
    def of(cls, texts: Sequence[Text], starts: Sequence[int]) -> Edits:
        """Each text from its start on."""
        places = [start + offset for text, start in zip(texts, starts, strict=True) for offset in range(len(text))]
        tokens = [token for text in texts for token in text]
        order = np.argsort(np.array(places, dtype=np.int64))
        return cls(np.array(places, dtype=np.int64)[order], np.array(tokens, dtype=np.int64)[order])

    def apply(self, rows: Ints, first: int) -> None:
        """Write into rows (k, length), in place; the first of them is row `first` of the run."""
        offset, size = first * rows.shape[1], rows.size
        low, high = np.searchsorted(self.places, [offset, offset + size])
        rows.reshape(-1)[self.places[low:high] - offset] = self.tokens[low:high]


class InsertionMap:
    """Which tokens of a run are taken already."""

    def __init__(self, rows: int, length: int) -> None:
        self.taken = np.zeros((rows, length), dtype=bool)

    def part(self, first: int, last: int) -> InsertionMap:
        """A copy of the map of rows first to last - 1, whose places count from its own first row."""
        own = InsertionMap(0, self.taken.shape[1])
        own.taken = self.taken[first:last].copy()
        return own

    def take_rows(self, rows: Sequence[int]) -> None:
        """Keep all other texts out of whole rows. Raises ConfigError if one is taken already."""
        for row in rows:
            self._take(row, 0, self.taken.shape[1])

    def explicit(self, texts: Sequence[Text], starts: Sequence[int]) -> Edits:
        """Each text at its start. Raises ConfigError if texts overlap, or one reaches beyond the end of its row."""
        for text, start in zip(texts, starts, strict=True):
            self._take(*divmod(start, self.taken.shape[1]), len(text))
        return Edits.of(texts, starts)

    def scatter(
        self, texts: Sequence[Text], stream: np.random.Generator, window: tuple[float, float] = (0.0, 1.0)
    ) -> Edits:
        """Each text at a random free place. window: shares of the rows between which it may lie.

        Raises ConfigError if there is no room, or a text is longer than a row.
        """
        first, last = (round(share * len(self.taken)) for share in window)
        return Edits.of(texts, [self._random(len(text), first, last, stream) for text in texts])

    def _random(self, size: int, first: int, last: int, stream: np.random.Generator) -> int:
        length = self.taken.shape[1]
        if size > length:
            raise ConfigError(f"a text of {size} tokens does not fit into a row of {length}; prepare longer rows")
        for _ in range(TRIES if last > first else 0):
            row, column = int(stream.integers(first, last)), int(stream.integers(length - size + 1))
            if not self.taken[row, column : column + size].any():
                self._take(row, column, size)
                return row * length + column
        free = ~np.lib.stride_tricks.sliding_window_view(self.taken[first:last], size, axis=1).any(axis=2)
        if free.any():
            row, column = stream.choice(np.argwhere(free)).tolist()
            self._take(first + row, column, size)
            return (first + row) * length + column
        raise ConfigError(
            f"no room for a text of {size} tokens in rows {first} to {last - 1}: {self.taken[first:last].mean():.0%} "
            "of their tokens are taken. Lower the doses of the experiments, or train for more steps."
        )

    def _take(self, row: int, column: int, size: int) -> None:
        rows, length = self.taken.shape
        if not 0 <= row < rows or column + size > length:
            raise ConfigError(f"a text of {size} tokens at row {row}, column {column} leaves the {rows} x {length} run")
        if self.taken[row, column : column + size].any():
            raise ConfigError(f"two texts overlap in row {row} of the run; give them other places")
        self.taken[row, column : column + size] = True


def copies(texts: Sequence[Text], repetitions: float, stream: np.random.Generator) -> list[Text]:
    """Each text `repetitions` times; a fraction is the chance of one more copy."""
    whole = int(repetitions)
    extra = stream.random(len(texts)) < repetitions - whole
    return [text for text, more in zip(texts, extra, strict=True) for _ in range(whole + int(more))]
