"""One GPU, one job: leases that a crash cannot leak.

A lease is a file that its holder keeps locked. The kernel lets go of the lock however the process dies, so a file that
can be locked is stale, whoever left it. A free device is looked for by one process at a time, the one that holds the
`door`; it keeps the door until it has found what it asks for, so that nobody overtakes a job that waits for two
devices, and no two jobs hold one each and wait for the other.

All Snakemakes of a user on a machine share the folder. The standard library is all that is imported here.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

from ontogeny.errors import OntogenyError

WHOLE = 100  # percent of a device
POLL = 0.2  # seconds between two looks at what is free
log = logging.getLogger("ontogeny")


def runtime_folder() -> Path:
    """The folder of this user's leases on this machine. Not under XDG_RUNTIME_DIR, which not every session has."""
    base = Path(os.environ.get("ONTOGENY_RUNTIME") or f"/tmp/ontogeny-{os.getuid()}")
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = base.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise OntogenyError(f"{base}: is not a folder of yours; set ONTOGENY_RUNTIME to one that is.")
    (base / "gpus").mkdir(mode=0o700, exist_ok=True)
    return base / "gpus"


@contextmanager
def lease(
    devices: Sequence[str], percent: int, folder: Path, poll: float = POLL, say: Callable[[str], None] = log.info
) -> Iterator[tuple[str, ...]]:
    """Hold devices while the body runs, and yield their names.

    percent: 100 for each device that is wanted whole, less than 100 for a share of one. Waits until they are free.
    Raises OntogenyError if there are not so many devices at all.
    """
    if percent > WHOLE * len(devices):
        raise OntogenyError(f"asks for {percent / WHOLE:g} GPUs, and {len(devices)} can be used here: {list(devices)}.")
    with ExitStack() as held:
        with _door(folder, say):
            chosen = _wait_for(devices, percent, folder, poll, say)
            for device in chosen:
                held.enter_context(_file(folder, device, min(percent, WHOLE)))
        yield chosen


@contextmanager
def _door(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Be the only process that looks for free devices."""
    with (folder / "door").open("a") as door:
        try:
            fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for a GPU, behind other jobs")
            fcntl.flock(door, fcntl.LOCK_EX)
        yield


def _wait_for(
    devices: Sequence[str], percent: int, folder: Path, poll: float, say: Callable[[str], None]
) -> tuple[str, ...]:
    told = False
    while True:
        used, holders = taken(folder)
        chosen = choose(devices, percent, used)
        if chosen:
            return chosen
        if not told:
            say(f"waiting for a GPU; held by processes {', '.join(map(str, holders))}")
            told = True
        time.sleep(poll)


def choose(devices: Sequence[str], percent: int, used: dict[str, int]) -> tuple[str, ...]:
    """Free devices for a request, or nothing. Whole devices in their order; for a share, the device with most room."""
    if percent < WHOLE:
        room = max(devices, key=lambda device: WHOLE - used.get(device, 0))
        return (room,) if used.get(room, 0) + percent <= WHOLE else ()
    free = [device for device in devices if not used.get(device)]
    count = percent // WHOLE
    return tuple(free[:count]) if len(free) >= count else ()


def taken(folder: Path) -> tuple[dict[str, int], list[int]]:
    """Device -> percent that living processes hold, and these processes. Removes what dead ones left.

    To be called by the holder of the door.
    """
    used: dict[str, int] = {}
    holders: list[int] = []
    for path in sorted(folder.glob("*.lease")):
        if _held(path):
            device, percent, process, *_ = path.name.split(".")
            used[unquote(device)] = used.get(unquote(device), 0) + int(percent)
            holders.append(int(process))
    return used, holders


def _held(path: Path) -> bool:
    """Whether a living process holds a lease; a stale one is removed."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
    except FileNotFoundError:  # given back just now
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def _file(folder: Path, device: str, percent: int) -> Iterator[None]:
    """A locked file that says who holds how much of which device."""
    name = f"{quote(device, safe='').replace('.', '%2E')}.{percent}.{os.getpid()}.{secrets.token_hex(4)}.lease"
    with (folder / name).open("x") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                (folder / name).unlink()
