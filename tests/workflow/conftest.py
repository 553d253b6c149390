"""Copies of the checkout in which the workflow really runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ontogeny.events import Board, EventFile
from ontogeny.scaffold import ROOT, make_study

SMOKE = ("--config", "scale=smoke")


class Checkout:
    """A copy of the tracked and new files, with no results."""

    def __init__(self, path: Path) -> None:
        self.path = path
        names = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.splitlines()
        for name in names:
            if (ROOT / name).exists() or (ROOT / name).is_symlink():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, path / name, follow_symlinks=False)

    @property
    def environment(self) -> dict[str, str]:
        """Of the processes that work in the copy: its own library, and no colours."""
        inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return {**inherited, "PYTHONPATH": str(self.path / "workflow"), "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}

    def module(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run `python -m …` in the copy and return what it said."""
        return subprocess.run(
            [sys.executable, "-m", *arguments], cwd=self.path, env=self.environment, timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake in the copy."""
        return self.module("snakemake", *arguments)

    def planned(self, *arguments: str) -> set[str]:
        """The jobs that a dry run plans, as 'rule study run'."""
        events = self.path / "planned.events"
        events.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments, "--dry-run", "--logger", "ontogeny"], cwd=self.path,
            env={**self.environment, "ONTOGENY_EVENTS": str(events)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        board = Board()
        for event in EventFile(events).new():
            board.take(event, 0.0)
        return {name_of(job.rule, job.wildcards) for job in board.jobs.values()}

    @contextmanager
    def edited(self, name: str, change: Callable[[str], str]) -> Iterator[None]:
        """The copy with one file changed; afterwards the file is as it was, its time included."""
        path = self.path / name
        before, times = path.read_text(), path.stat()
        after = change(before)
        assert after != before, f"{name} was not changed"
        path.write_text(after)
        try:
            yield
        finally:
            path.write_text(before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def edited_yaml(self, name: str, change: Callable[[Any], None]) -> Any:
        """Like `edited`, for the content of a YAML file."""

        def apply(text: str) -> str:
            content = yaml.safe_load(text)
            change(content)
            return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)

        return self.edited(name, apply)


def name_of(rule: str, wildcards: dict[str, str]) -> str:
    """'train deep_linear tree-s0-19', 'acquire mnist', 'report'."""
    parts = (rule, wildcards.get("study"), wildcards.get("source"), wildcards.get("run"))
    return " ".join(part for part in parts if part)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Every study at smoke scale, finished."""
    checkout = Checkout(tmp_path_factory.mktemp("smoke"))
    done = checkout.module("snakemake", "--cores", "2", *SMOKE, timeout=1800)  # a dozen jobs for each study
    assert done.returncode == 0, done.stdout[-6000:]
    return checkout


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy whose only study is the scaffold's, with two rows; nothing has run."""
    return scaffold_checkout(tmp_path_factory.mktemp("small"))


def scaffold_checkout(path: Path) -> Checkout:
    """A copy of the checkout in which the scaffold's study `alpha` takes the place of the real ones."""
    checkout = Checkout(path)
    for room in (path / "workflow" / "ontogeny" / "studies").iterdir():
        if room.is_dir():
            shutil.rmtree(room)
    for notebook in (path / "notebooks").glob("*.ipynb"):
        notebook.unlink()
    make_study("alpha", path)
    return checkout
