"""Two values of a job's parameters, compared in words: code, settings, seeds, lists of names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ontogeny.fingerprint import decode

CODE = re.compile(r"\S+=[0-9a-f]{12}( \S+=[0-9a-f]{12})*")
LONGEST = 60  # characters of a value
# What a dictionary or a list of names among the parameters of a rule holds
DICTIONARIES = {
    "acquire": "source ",
    "prepare": "data setting ",
    "train": "setting ",
    "probe": "columns of table ",
    "claims": "claim ",
    "figures": "caption ",
    "report": "study.yaml of ",
}
LISTS = {"claims": "deviations", "export": "figures", "report": "studies"}


def values_changed(rule: str, before: Sequence[Any], now: Sequence[Any]) -> list[str]:
    """Lines that say how the parameters of a rule differ; `before` and `now` hold only what the other lacks.

    Snakemake keeps the values of parameters without their names, so they are matched by their kind.
    """
    lines: list[str] = []
    for old, new in _pairs([_plain(value) for value in before], [_plain(value) for value in now]):
        lines += difference(rule, old, new)
    return lines


def _plain(value: Any) -> Any:
    """A parameter, with JSON text taken apart."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _pairs(before: Sequence[Any], now: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Match old and new values of the same kind, in order; None where one has no counterpart."""
    left = list(before)
    for new in now:
        old = next((value for value in left if _kind(value) == _kind(new)), None)
        if old is not None:
            left.remove(old)
        yield old, new
    yield from ((old, None) for old in left)


def _kind(value: Any) -> str:
    if _is_code(value):
        return "code"
    return "list of numbers" if _are_numbers(value) else type(value).__name__


def _is_code(value: Any) -> bool:
    return isinstance(value, str) and CODE.fullmatch(value) is not None


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def difference(rule: str, old: Any, new: Any) -> list[str]:
    """Two values of a parameter of a rule, compared in words."""
    if _is_code(old) and _is_code(new):
        return code_difference(decode(old), decode(new))
    if isinstance(old, dict) and isinstance(new, dict):
        return [f"{DICTIONARIES.get(rule, '')}{line}" for line in entries(old, new, deep=rule != "report")]
    if _are_numbers(old) and _are_numbers(new):
        return [f"seeds: {_range(old)} -> {_range(new)}"]
    if isinstance(old, list) and isinstance(new, list):
        return [_names_changed(LISTS.get(rule, "list"), old, new)]
    return [f"{_name(new if old is None else old)}: {short(old)} -> {short(new)}"]


def _name(value: Any) -> str:
    if value in ("auto", "cpu", "cuda"):
        return "device"
    return "threads" if type(value) is int else "parameter"


def code_difference(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """The modules whose code changed, came or went."""
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    came, went = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    lines = [f"the notebook changed ({name})" for name in changed if name.endswith(".ipynb")]
    for names, words in (
        ([name for name in changed if not name.endswith(".ipynb")], "code changed in"),
        (came, "code imported now:"),
        (went, "code no longer imported:"),
    ):
        if names:
            lines.append(f"{words} {', '.join(names)}")
    return lines


def entries(old: dict[str, Any], new: dict[str, Any], deep: bool = True, path: str = "") -> Iterator[str]:
    """The entries of a dictionary that differ, nested ones by their path; not their values unless `deep`."""
    for key in {**old, **new}:
        before, now = old.get(key), new.get(key)
        if before == now and (key in old) == (key in new):
            continue
        if not deep:
            yield f"{key} {'changed' if key in old and key in new else 'new' if key in new else 'gone'}"
        elif isinstance(before, dict) and isinstance(now, dict):
            yield from entries(before, now, deep, f"{path}{key}.")
        else:
            yield f"{path}{key}: {short(before)} -> {short(now)}"


def _names_changed(what: str, old: Sequence[Any], new: Sequence[Any]) -> str:
    came = [short(item) for item in new if item not in old]
    went = [short(item) for item in old if item not in new]
    parts = [f"{', '.join(names)} {word}" for names, word in ((came, "new"), (went, "gone")) if names]
    return f"{what}: {'; '.join(parts) or 'other order'}"


def _range(seeds: Sequence[int]) -> str:
    return f"{seeds[0]}–{seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"


def short(value: Any) -> str:
    """A value as Python writes it, cut where it is long."""
    text = "(absent)" if value is None else repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
