"""The feedback controller: how many texts to insert, so that a measured value follows a target."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE = 0.05  # relative distance from the target at which nothing changes


@dataclass(frozen=True)
class Controller:
    """Doubles the texts of an interval where the value is below the target, and halves them where it is above.

    end: target at the end of the run, which it grows to linearly from zero. most: most texts of an interval.
    """

    end: float
    most: int

    def target(self, step: int, steps: int) -> float:
        """The value that is aimed at after `step` of `steps` steps."""
        return self.end * step / steps

    def decide(self, texts: int, value: float, target: float) -> int:
        """Texts of the next interval, 1 to `most`, from those of the last one."""
        if value > (1 + TOLERANCE) * target:
            texts //= 2
        elif value < (1 - TOLERANCE) * target:
            texts *= 2
        return min(max(texts, 1), self.most)
