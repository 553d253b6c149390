"""One GPU, one job: leases over many processes, and under kills at random moments."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ontogeny import leases
from ontogeny.errors import OntogenyError
from ontogeny.leases import choose, lease, runtime_folder, taken
from ontogeny.scaffold import ROOT

TWO = ("GPU-a", "GPU-b")
HOLDER = """
import sys, time
from pathlib import Path
from ontogeny.leases import lease
with lease(sys.argv[2].split(","), int(sys.argv[3]), Path(sys.argv[1]), poll=0.01, say=lambda text: None) as mine:
    print(",".join(mine), flush=True)
    time.sleep(60)
"""


def holder(folder: Path, percent: int, devices: Sequence[str] = TWO) -> subprocess.Popen[str]:
    """A process that holds a lease until it is killed; its first line names the devices."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), ",".join(devices), str(percent)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def until(happened: Callable[[], bool]) -> None:
    """Wait for something that must happen soon."""
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize(
    ("percent", "used", "expected"),
    [
        (100, {}, ("a",)),
        (100, {"a": 100}, ("b",)),
        (100, {"a": 25, "b": 100}, ()),
        (200, {}, ("a", "b")),
        (200, {"b": 10}, ()),
        (25, {}, ("a",)),
        (25, {"a": 25}, ("b",)),  # a share goes where there is most room
        (25, {"a": 75, "b": 100}, ("a",)),
        (50, {"a": 75, "b": 100}, ()),
    ],
)
def test_what_is_chosen(percent: int, used: dict[str, int], expected: tuple[str, ...]) -> None:
    assert choose(("a", "b"), percent, used) == expected


def test_two_processes_get_different_devices_and_the_third_waits(tmp_path: Path) -> None:
    holders = [holder(tmp_path, 100) for _ in TWO]
    assert {said(process) for process in holders} == set(TWO)
    heard: list[str] = []
    free: list[tuple[str, ...]] = []

    def wait() -> None:
        with lease(TWO, 100, tmp_path, poll=0.01, say=heard.append) as mine:
            free.append(mine)

    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: bool(heard))
    assert not free
    assert "waiting for a GPU; held by processes" in heard[0]
    assert str(holders[0].pid) in heard[0]
    holders[1].send_signal(signal.SIGKILL)  # no chance to give anything back
    waiting.join(timeout=10)
    assert len(free) == 1
    for process in holders:
        ended(process)


def test_shares_fill_a_device_and_no_more(tmp_path: Path) -> None:
    holders = [holder(tmp_path, 40, ["GPU-a"]) for _ in range(2)]
    assert [said(process) for process in holders] == ["GPU-a", "GPU-a"]
    assert taken(tmp_path)[0] == {"GPU-a": 80}
    assert choose(["GPU-a"], 40, taken(tmp_path)[0]) == ()
    for process in holders:
        ended(process)
    assert taken(tmp_path)[0] == {}
    assert list(tmp_path.glob("*.lease")) == []


def test_nobody_overtakes_a_job_that_waits_for_two(tmp_path: Path) -> None:
    first = holder(tmp_path, 100)
    assert said(first) == "GPU-a"
    both = holder(tmp_path, 200)
    until(lambda: locked(tmp_path / "door"))
    small = holder(tmp_path, 100)
    time.sleep(0.5)
    assert taken(tmp_path)[0] == {"GPU-a": 100}  # b is kept for the one that came first
    ended(first)
    assert said(both) == "GPU-a,GPU-b"
    ended(both)
    assert said(small) == "GPU-a"
    ended(small)


def test_names_with_odd_characters_are_kept(tmp_path: Path) -> None:
    name = "MIG-GPU-1.2/0/1"
    with lease([name], 100, tmp_path):
        assert taken(tmp_path)[0] == {name: 100}


def test_more_than_there_is_does_not_wait_for_ever(tmp_path: Path) -> None:
    for devices, percent in ((TWO, 300), ((), 100), ((), 25)):
        with pytest.raises(OntogenyError, match="GPUs, and"), lease(devices, percent, tmp_path):
            pass


def test_the_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONTOGENY_RUNTIME", str(tmp_path / "new" / "folder"))
    assert runtime_folder() == tmp_path / "new" / "folder" / "gpus"
    assert (tmp_path / "new" / "folder").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("ONTOGENY_RUNTIME", str(tmp_path / "link"))
    with pytest.raises(OntogenyError, match="not a folder of yours"):
        runtime_folder()
    monkeypatch.setenv("ONTOGENY_RUNTIME", str(tmp_path / "new" / "folder"))
    monkeypatch.setattr(leases.os, "getuid", lambda: 987654321)
    with pytest.raises(OntogenyError, match="not a folder of yours"):
        runtime_folder()


@pytest.mark.parametrize("crashes", [120, pytest.param(1000, marks=pytest.mark.slow)])
def test_kills_at_random_moments_leak_no_device_and_give_none_twice(tmp_path: Path, crashes: int) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "lease_crashes.py"), str(tmp_path), str(crashes), "7"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    counts = json.loads(done.stdout)
    assert counts["crashes"] >= crashes
    assert counts["while holding"] > crashes / 50  # else nothing was tried
    assert counts["given twice"] == 0
    assert counts["leaked"] == 0
    assert counts["files left"] == 0
