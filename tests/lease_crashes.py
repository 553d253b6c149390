"""Many processes that take and give back leases, killed at random moments: python lease_crashes.py FOLDER CRASHES SEED.

Each worker notes when it has a device and when it is about to give it back. What a killed one held ends, at the
earliest, when the kill was sent: so two notes of one device that overlap prove that it was given twice.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

from ontogeny.leases import WHOLE, lease, taken

DEVICES = ("GPU-a", "GPU-b", "GPU-c")
REQUESTS = (100, 100, 100, 200, 300, 50, 25)  # percent
SIDE_BY_SIDE = 8
POLL = 0.0005


def work(folder: Path, seed: int) -> None:
    """Take and give back leases until the kill comes."""
    choice = random.Random(seed)
    notes = os.open(folder / f"{os.getpid()}.notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        percent = choice.choice(REQUESTS)
        with lease(DEVICES, percent, folder / "gpus", poll=POLL, say=lambda text: None) as mine:
            note(notes, "begin", mine, percent)
            time.sleep(choice.choice((0, 0.001, 0.01, 0.03)))
            note(notes, "end", mine, percent)


def note(notes: int, what: str, devices: tuple[str, ...], percent: int) -> None:
    os.write(notes, f"{what} {time.monotonic_ns()} {min(percent, WHOLE)} {','.join(devices)}\n".encode())


def torment(folder: Path, crashes: int, seed: int) -> dict[int, int]:
    """Start workers and kill each at a random moment; return process -> when its kill was sent."""
    chance = random.Random(seed)
    due: dict[int, float] = {}
    killed: dict[int, int] = {}
    while len(killed) < crashes:
        while len(due) < SIDE_BY_SIDE:
            child = os.fork()
            if child == 0:
                work(folder, chance.getrandbits(32) + len(killed))
            due[child] = time.monotonic() + chance.expovariate(1 / 0.02)
        pid = min(due, key=due.__getitem__)
        time.sleep(max(0.0, due.pop(pid) - time.monotonic()))
        killed[pid] = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    for pid in due:
        killed[pid] = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return killed


def holdings(folder: Path, killed: dict[int, int]) -> dict[str, list[tuple[int, int]]]:
    """Device -> its events in time: (moment, percent that is taken or, negative, given back)."""
    events: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for path in folder.glob("*.notes"):
        last = killed[int(path.stem)]
        lines = [line.split() for line in path.read_text().splitlines()]
        for index, (what, moment, percent, devices) in enumerate(lines):
            if what == "begin":
                end = int(lines[index + 1][1]) if index + 1 < len(lines) else last
                for device in devices.split(","):
                    events[device] += [(int(moment), int(percent)), (max(end, int(moment)), -int(percent))]
    return events


def given_twice(events: dict[str, list[tuple[int, int]]]) -> int:
    """How often a device was held for more than a whole."""
    times = 0
    for steps in events.values():
        held = 0
        for _, change in sorted(steps):  # at one moment, what is given back comes first
            held += change
            times += held > WHOLE
    return times


def main(folder: Path, crashes: int, seed: int) -> None:
    (folder / "gpus").mkdir()
    started = time.monotonic()
    killed = torment(folder, crashes, seed)
    seconds = time.monotonic() - started
    events = holdings(folder, killed)
    with lease(DEVICES, WHOLE * len(DEVICES), folder / "gpus", poll=POLL):  # whoever comes next gets them all
        free = time.monotonic() - started - seconds
    used, _ = taken(folder / "gpus")
    notes = [path.read_text() for path in folder.glob("*.notes")]
    found = {
        "crashes": len(killed),
        "while holding": sum(text.count("begin") > text.count("end") for text in notes),
        "leases": sum(text.count("begin") for text in notes),
        "given twice": given_twice(events),
        "leaked": len(used),
        "files left": len(list((folder / "gpus").glob("*.lease"))),
        "wait": free,
        "seconds": seconds,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
