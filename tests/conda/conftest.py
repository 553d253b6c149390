"""An installation of conda that needs no conda server, and a workflow that has run with it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ontogeny.pins import load_wanted
from tests.conda import front_end
from tests.conda.packages import build_channel
from tests.workflow.conftest import SMOKE, Checkout

SYSTEM = os.pathsep.join(["/usr/local/bin", "/usr/bin", "/bin"])
ACTIVATE = """\
# sourced with the folder of an environment
code=$({conda} activate-code "$1") || return 1
eval "$code"
"""


class Installation:
    """The stand-in for conda with its channel, and environments made by it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        build_channel(root / "channel", front_end.Conda(root).subdir, load_wanted())
        (root / "bin").mkdir()
        # -I: nothing of the caller's Python reaches it
        command = shlex.join([sys.executable, "-I", front_end.__file__, str(root)])
        (root / "bin" / "conda").write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (root / "bin" / "conda").chmod(0o755)
        (root / "bin" / "activate").write_text(ACTIVATE.format(conda=root / "bin" / "conda"))
        self.conda("env", "create", "--file", "envs/control.yaml", "--prefix", str(self.control))

    @property
    def control(self) -> Path:
        """The environment that runs Snakemake: without torch, pandas or notebooks that jobs could borrow."""
        return self.root / "control"

    @property
    def environment(self) -> dict[str, str]:
        """Of a user who has activated `control` and nothing else; no PYTHONPATH, no virtual environment."""
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR", "ONTOGENY_CACHE", "HOME") if name in os.environ}
        path = os.pathsep.join([str(self.control / "bin"), str(self.root / "bin"), SYSTEM])
        return {**kept, "PATH": path, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}

    def conda(self, *arguments: str, **variables: str) -> str:
        """Run the stand-in and return what it said; raises CalledProcessError."""
        return run([str(self.root / "bin" / "conda"), *arguments], Path.cwd(), {**os.environ, **variables}).stdout

    def snakemake(self, checkout: Checkout, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake of `control` in a copy of the checkout, with environments by conda."""
        command = [str(self.control / "bin" / "python"), "-m", "snakemake", *arguments]
        options = ["--sdm", "conda", "--conda-prefix", str(self.root / "envs")]
        return subprocess.run(
            [*command, *options], cwd=checkout.path, env={**self.environment, **variables}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip

    def activated(self, prefix: Path, command: str, folder: Path, **variables: str) -> str:
        """What a shell command says in an activated environment, as Snakemake runs it."""
        script = f"source {self.root}/bin/activate '{prefix}'; {command}"
        return run(["bash", "-euc", script], folder, {**self.environment, **variables}).stdout


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command; on failure the test shows what it said."""
    done = subprocess.run(command, cwd=folder, env=dict(environment), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="session")
def room() -> Iterator[Path]:
    """A folder for gigabytes, removed at the end whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="ontogeny-conda-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def installation(room: Path) -> Installation:
    return Installation(room)


@pytest.fixture(scope="session")
def checkout(room: Path) -> Checkout:
    return Checkout(room / "checkout")


@pytest.fixture(scope="session")
def said(installation: Installation, checkout: Checkout) -> str:
    """What Snakemake said while it ran every study at smoke scale in conda environments."""
    done = installation.snakemake(checkout, "--cores", "2", *SMOKE)
    assert done.returncode == 0, done.stdout[-8000:]
    return done.stdout


@pytest.fixture(scope="session")
def environments(installation: Installation, checkout: Checkout, said: str) -> dict[str, Path]:
    """Stem of each file in envs/ that the run used -> its environment."""
    listed = installation.snakemake(checkout, "--list-conda-envs", "--forceall", *SMOKE).stdout
    return dict(places(listed, checkout))


def places(listed: str, checkout: Checkout) -> Iterator[tuple[str, Path]]:
    """(stem, folder) of each line of `snakemake --list-conda-envs`."""
    for line in listed.splitlines():
        fields = line.split("\t")
        if fields[0].endswith(".yaml"):
            yield Path(fields[0]).stem, checkout.path / fields[-1]
