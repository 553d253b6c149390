"""Prepared data -> the history and checkpoints of one run."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ontogeny.device import resolve_device, set_deterministic
from ontogeny.files import MANIFEST, Folder
from ontogeny.provenance import describe
from ontogeny.rooms import part
from ontogeny.run import Run, RunConfig
from ontogeny.stopwatch import stopwatch

log = logging.getLogger("ontogeny")


def train(config: Mapping[str, Any], threads: int, data: Path, out: Path, state: Path, code: str) -> None:
    """Train one run and publish it at `out`. SIGTERM (a preemption, the end of a job's time) saves the state first.

    config: the plain form of a RunConfig. state: folder for resumable state; a training goes on from it if it was left
    by the same configuration, data and `code` (the fingerprint of the modules). The state is saved every
    ONTOGENY_SAVE_SECONDS, 10 unless the environment says otherwise.
    """
    set_deterministic(threads)
    content = {**config, "device": resolve_device(config["device"])}
    typed, inputs = RunConfig.from_json(content), Folder(data)
    modules = dict(entry.split("=") for entry in code.split())
    save_seconds = float(os.environ.get("ONTOGENY_SAVE_SECONDS", "10"))
    with sole_owner(state) as waited:
        if waited and published(out, typed, modules):
            log.info("another process has trained this run meanwhile")
            return
        run = Run(typed, state, f"{code} {content} {sorted(inputs.manifest.items())}", save_seconds)
        program = part(typed.study, "train")
        with on_sigterm(run.ask_to_end), stopwatch.computing():
            program.train(typed, inputs, run)
        run.publish(out, {"provenance.json": describe(modules, content["device"], threads)})


@contextmanager
def sole_owner(state: Path) -> Iterator[bool]:
    """Hold the state of a run, so that no two processes train it; yields whether another one had to be waited for.

    A job of a cluster may outlive the Snakemake that submitted it, and the next Snakemake submits it again. The lock is
    the kernel's, which lets go of it however the process dies; across nodes it is as good as the shared file system's.
    """
    state.parent.mkdir(parents=True, exist_ok=True)
    lock = state.with_name(f"{state.name}.lock")
    with lock.open("a") as handle:
        waited = False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process is training this run; waiting for it")
            waited = True
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield waited
        lock.unlink(missing_ok=True)
    with suppress(OSError):  # the last run of a study removes the folder of states
        state.parent.rmdir()


@contextmanager
def on_sigterm(function: Callable[[], None]) -> Iterator[None]:
    """Call `function` instead of dying when SIGTERM arrives."""
    before = signal.signal(signal.SIGTERM, lambda *_: function())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def published(out: Path, config: RunConfig, modules: dict[str, str]) -> bool:
    """Whether `out` is a finished training of this configuration by this code."""
    if not (out / MANIFEST).exists():
        return False
    done = Folder(out)
    return bool(done.json("config.json") == config.to_json() and done.json("provenance.json")["code"] == modules)
