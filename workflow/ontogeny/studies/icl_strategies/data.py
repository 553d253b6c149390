"""The fresh tasks on which every network is examined, and what the probes need to know."""

from __future__ import annotations

import torch

from ontogeny.files import OutFolder
from ontogeny.randomness import generator
from ontogeny.sources import Sources
from ontogeny.studies.icl_strategies import urns
from ontogeny.studies.icl_strategies.settings import DataSettings


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write fresh tasks (n, V), one sequence of each (n, C), and the settings."""
    tasks = urns.draw_tasks(settings.fresh, settings.symbols, generator(0, "fresh tasks"))
    uniform = torch.rand(settings.fresh, 1, 1 + settings.length, generator=generator(0, "fresh sequences"))
    symbols = urns.draw_symbols(urns.boundaries_of(tasks).float().unsqueeze(1), uniform)[:, 0]
    out.save_arrays("fresh.npz", tasks=tasks.numpy(), symbols=symbols.numpy())
    out.save_json("settings.json", settings.model_dump(mode="json"))
