"""Who is in the ensemble of a run, and who trains beside whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product

from ontogeny.studies.feature_emergence.group_names import order
from ontogeny.studies.feature_emergence.settings import Grokking, Optimiser

CACHE_ELEMENTS = 200_000  # activations of the networks that train side by side on a CPU: what fits its cache
GPU_ELEMENTS = 2**28


@dataclass(frozen=True)
class Member:
    """One network: a point of the sweep and a seed. The fields are columns of the history."""

    group: str
    width: int
    fraction: float
    optimiser: str
    learning_rate: float
    weight_decay: float
    zero_readout: bool
    seed: int

    @property
    def pairs(self) -> int:
        """How many pairs it trains on."""
        return round(self.fraction * order(self.group) ** 2)


@dataclass(frozen=True)
class Crew:
    """Members of one group, width, fraction and optimiser, which train as one tensor program."""

    members: tuple[Member, ...]
    optimiser: Optimiser


def crews(settings: Grokking, seeds: Sequence[int], device: str) -> list[Crew]:
    """All members of a run, in crews whose activations fit the cache."""
    everyone = []
    cells = product(settings.groups, settings.widths, settings.fractions, settings.optimisers)
    for group, width, fraction, optimiser in cells:
        here = [
            Member(group, width, fraction, optimiser.name, optimiser.learning_rate, decay, zero, seed)
            for decay, zero, seed in product(settings.weight_decays, settings.zero_readouts, seeds)
        ]
        elements = CACHE_ELEMENTS if device == "cpu" else GPU_ELEMENTS
        size = max(1, elements // (here[0].pairs * width))
        everyone += [Crew(tuple(here[first : first + size]), optimiser) for first in range(0, len(here), size)]
    return everyone


def columns(members: Sequence[Member]) -> dict[str, list]:
    """The members' fields as columns of a table."""
    rows = [asdict(member) for member in members]
    return {name: [row[name] for row in rows] for name in rows[0]}
