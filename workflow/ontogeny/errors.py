"""Errors that a user can act on: shown as one message, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OntogenyError(Exception):
    """A problem that its message explains: which file, which field, and the way out."""


class ConfigError(OntogenyError):
    """The configuration or a ``study.yaml`` says something that it may not say."""


class DamagedFile(OntogenyError):
    """A file of an earlier stage is missing, truncated or altered."""


class DivergedTraining(OntogenyError):
    """A training produced a number that is not finite."""


class Interrupted(OntogenyError):
    """A job was asked to end (SIGTERM: a preemption, the end of its time) and has saved what it had."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest of `known`, or the list of all if none is near."""
    known = sorted(map(str, known))
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(known)}"
