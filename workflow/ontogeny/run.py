"""A training that can be killed at any moment and goes on where it was, bit for bit.

The state of a running training lives outside its declared outputs, because Snakemake deletes the outputs of a failed
job. `Run.steps` restores the state, saves it by the clock, and `Run.publish` turns history and checkpoints into the
declared folder at once.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ontogeny.errors import DamagedFile, DivergedTraining, Interrupted
from ontogeny.files import (
    Folder,
    OutFolder,
    atomic,
    read_json,
    read_table,
    read_tensors,
    write_json,
    write_table,
    write_tensors,
)
from ontogeny.progress import Progress
from ontogeny.rooms import part
from ontogeny.settings import validate

State = dict[str, "torch.Tensor | torch.Generator"]
log = logging.getLogger("ontogeny")


@dataclass(frozen=True)
class RunConfig:
    """What one training job computes. `settings` is the study's own typed model."""

    study: str
    scale: str
    run: str
    row: str
    settings: Any
    seeds: tuple[int, ...]
    device: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, enough to rebuild the config."""
        plain = {key: getattr(self, key) for key in ("study", "scale", "run", "row", "device")}
        return {**plain, "seeds": list(self.seeds), "settings": self.settings.model_dump(mode="json")}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RunConfig:
        """The config that `to_json` wrote."""
        model = part(content["study"], "settings").RunSettings
        settings = validate(model, content["settings"], f"{content['study']}: {content['run']}")
        return cls(**{**content, "settings": settings, "seeds": tuple(content["seeds"])})


class Run:
    """The handle of a running training: its loop, its history and its checkpoints."""

    def __init__(self, config: RunConfig, state: Path, identity: str, save_seconds: float = 10.0) -> None:
        """`state` is the folder for resumable state; it is thrown away unless it was left by the same `identity`."""
        self.config = config
        self._folder = state
        self._save_seconds = save_seconds
        self._history: list[pd.DataFrame] = []
        self._parts = 0
        self._stopped = False
        self._asked_to_end = False
        self._progress = Progress(config.study, "train", config.run, state / "progress.json")
        self._open(identity)

    def _open(self, identity: str) -> None:
        marker = self._folder / "identity.json"
        if marker.exists() and read_json(marker) == identity:
            log.info("found the state of an interrupted training, going on from there")
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        (self._folder / "checkpoints").mkdir(parents=True)
        write_json(marker, identity)

    def steps(self, total: int, state: State, phase: str = "train") -> Iterator[int]:
        """Yield the steps 0..total-1 that are still to do, keeping `state` safe.

        On entry `state` holds the initial values. If this phase was under way before, its tensors and generators are
        put back as they were after the last save, and the steps before it are skipped. The caller changes `state`
        within the body of a step; it is saved every `save_seconds` at the end of a step, and when the phase ends.
        Raises Interrupted, with everything saved, at the end of the step in which `ask_to_end` was called.
        """
        first = self._restore(phase, state)
        saved = time.monotonic()
        for step in range(first, total):
            yield step
            if self._stopped:
                break
            if self._asked_to_end or (time.monotonic() - saved > self._save_seconds and step + 1 < total):
                self._save(phase, step + 1, state)
                saved = time.monotonic()
            if self._asked_to_end:
                raise Interrupted(
                    f"asked to end; {phase} is saved at step {step + 1} of {total} and goes on from there."
                )
            self._progress.update(step + 1, total, phase)
        self._stopped = False
        if first < total:
            self._save(phase, total, state)

    def stop(self) -> None:
        """End the phase after the step that is under way, as if it had reached its total."""
        self._stopped = True

    def ask_to_end(self) -> None:
        """Have the training saved and ended after the step that is under way. Safe in a signal handler."""
        self._asked_to_end = True

    def log(self, **columns: Any) -> None:
        """Append rows to the history. Scalars are repeated, sequences and tensors have one value a row."""
        self._history.append(pd.DataFrame(_broadcast(columns)))

    def checkpoint(self, name: str, tensors: dict[str, torch.Tensor]) -> None:
        """Keep named tensors for the probes, as `name`.safetensors."""
        with atomic(self._folder / "checkpoints" / f"{name}.safetensors") as temporary:
            write_tensors(temporary, tensors)

    def require_finite(self, step: int, values: torch.Tensor, members: Sequence[Any]) -> None:
        """Raise DivergedTraining unless each of `values` (one row a member) is finite."""
        good = torch.isfinite(values).reshape(len(members), -1).all(dim=1)
        if not bool(good.all()):
            bad = ", ".join(str(members[i]) for i in torch.nonzero(~good).flatten().tolist()[:5])
            raise DivergedTraining(
                f"{self.config.study}: run {self.config.run} diverged at step {step}, member {bad}: the loss is not "
                f"finite. Lower the learning rate of row '{self.config.row}' (config.yaml: overrides."
                f"{self.config.study}.sweep.{self.config.row}) and run again."
            )

    def publish(self, out: Path, records: dict[str, Any]) -> None:
        """Put history, checkpoints, configuration and `records` (file name -> JSON) at `out`; remove the state."""
        folder = OutFolder(out)
        logged = [*self._stored_history(), *self._history] or [pd.DataFrame({"step": []})]
        folder.save_table("history.parquet", pd.concat(logged, ignore_index=True))
        folder.save_json("config.json", self.config.to_json())
        for name, content in records.items():
            folder.save_json(name, content)
        folder.adopt(self._folder / "checkpoints")
        folder.publish()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _stored_history(self) -> list[pd.DataFrame]:
        return [read_table(self._folder / f"history-{index:04d}.parquet") for index in range(self._parts)]

    def _save(self, phase: str, step: int, state: State) -> None:
        """Save `state` after `step` steps of `phase`, and the rows logged since the last save.

        The state file is written last and names the history parts that belong to it, so that a kill in between
        leaves the previous save in force.
        """
        if self._history:
            write_table(
                self._folder / f"history-{self._parts:04d}.parquet",
                pd.concat(self._history, ignore_index=True),
            )
            self._history, self._parts = [], self._parts + 1
        tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
        streams = {
            f"{key}@stream": value.get_state() for key, value in state.items() if isinstance(value, torch.Generator)
        }
        marks = {"@step": torch.tensor(step), "@parts": torch.tensor(self._parts)}
        with atomic(self._folder / f"phase-{phase}.safetensors") as temporary:
            write_tensors(temporary, {**tensors, **streams, **marks})

    def _restore(self, phase: str, state: State) -> int:
        """Put back what `_save` wrote for `phase`; return the number of steps that are done."""
        path = self._folder / f"phase-{phase}.safetensors"
        if not path.exists():
            return 0
        try:
            stored = read_tensors(path)
        except DamagedFile as error:
            raise DamagedFile(f"{error} The training starts afresh when {self._folder} is removed.") from error
        self._parts = max(self._parts, int(stored["@parts"]))
        self._history.clear()  # what was logged before this save lies in the stored parts
        for key in {*state, *(name.removesuffix("@stream") for name in stored if not name.startswith("@"))}:
            _put_back(state, key, stored)
        return int(stored["@step"])


def _put_back(state: State, key: str, stored: dict[str, torch.Tensor]) -> None:
    """Restore one entry, in place where the shape allows, so that the caller's references stay valid."""
    present = state.get(key)
    if isinstance(present, torch.Generator):
        present.set_state(stored[f"{key}@stream"])
    elif isinstance(present, torch.Tensor) and present.shape == stored[key].shape:
        present.detach().copy_(stored[key])
    else:
        device = present.device if isinstance(present, torch.Tensor) else "cpu"
        state[key] = stored[key].to(device)


def _broadcast(columns: dict[str, Any]) -> dict[str, Any]:
    plain = {key: _plain(value) for key, value in columns.items()}
    length = max((len(value) for value in plain.values() if not np.isscalar(value) and value is not None), default=1)
    return {key: [value] * length if np.isscalar(value) or value is None else value for key, value in plain.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return value.item() if value.ndim == 0 else value
    return list(value) if isinstance(value, (list, tuple, range)) else value


class RunFolder(Folder):
    """A finished training as the probes see it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.config = RunConfig.from_json(self.json("config.json"))

    @property
    def history(self) -> pd.DataFrame:
        """All rows that the training logged, in order."""
        return self.table("history.parquet")

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints, sorted."""
        return sorted(name.removesuffix(".safetensors") for name in self.manifest if name.endswith(".safetensors"))

    def checkpoint(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of one checkpoint, on the CPU."""
        return self.tensors(f"{name}.safetensors")
