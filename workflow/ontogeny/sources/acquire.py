"""Acquiring a source: once, verified, whole or not at all, from the first mirror that delivers."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ontogeny.sources.cache import Receipt, SourceError, folder_of, sha256_of
from ontogeny.sources.decode import DECODERS
from ontogeny.sources.mirrors import MirrorFailed, opener
from ontogeny.sources.registry import Mirror, SourceSpec

Report = Callable[[str], None]

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}
# What damaged or unexpected content raises (gzip, tar, zip, parquet, images), or a missing decoder.
ARCHIVES = (EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile)
BAD_CONTENT = (*ARCHIVES, OSError, ImportError, KeyError, TypeError, ValueError)


def acquire(spec: SourceSpec, cache: Path, report: Report) -> Receipt:
    """Make sure that the files of a source lie in the cache, verified, and return the receipt.

    Intact files are not fetched again; if all are, nothing is written, so that a full cache may be read-only.
    Raises SourceError if no mirror delivers, or if the cache cannot be written.
    """
    receipt = Receipt(spec.name, spec.kind, spec.version, spec.licence, spec.origin, dict(spec.files))
    if not _wanting(spec, cache):
        report(f"{spec.name}: in the cache, verified ({folder_of(spec, cache)})")
        return receipt
    try:
        folder_of(spec, cache).mkdir(parents=True, exist_ok=True)
        with _alone(spec, cache, report) as work:
            _fetch_wanting(spec, cache, work, report)
    except OSError as error:
        raise SourceError(_cache_unusable(spec, cache, error)) from error
    return receipt


def _wanting(spec: SourceSpec, cache: Path) -> dict[str, str]:
    """Return the files that are not in the cache as declared: name -> what is wrong."""
    wanting = {}
    for name, expected in spec.files.items():
        path = folder_of(spec, cache) / name
        try:
            found = sha256_of(path)
        except OSError as error:
            wanting[name] = "missing" if error.errno == errno.ENOENT else f"not readable: {error.strerror}"
        else:
            if found != expected:
                wanting[name] = f"damaged: sha256 {found}"
    return wanting


@contextlib.contextmanager
def _alone(spec: SourceSpec, cache: Path, report: Report) -> Iterator[Path]:
    """Hold the source's lock, and yield a work folder in the cache that is removed afterwards.

    Where the file system has no locks two processes may fetch the same files; each then puts them in place in
    one step, with the same content, so that this ends well too.
    """
    prefix = f".{spec.name}-{spec.version}."
    with (cache / f"{prefix}lock").open("w") as lock:
        waiting = f"{spec.name}: waiting for another process that is fetching it"
        if _locked(lock.fileno(), lambda: report(waiting)):
            for left_behind in cache.glob(f"{prefix}*.work"):
                shutil.rmtree(left_behind, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=prefix, suffix=".work") as work:
            yield Path(work)


def _locked(handle: int, on_wait: Callable[[], None]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _fetch_wanting(spec: SourceSpec, cache: Path, work: Path, report: Report) -> None:
    """Try the mirrors in order until no file is wanting. Raises SourceError if all fail."""
    failures: list[str] = []
    for number, mirror in enumerate(spec.mirrors):
        if not (wanting := _wanting(spec, cache)):
            break
        report(f"{spec.name}: fetching from {mirror.label}")
        place = work / str(number)
        try:
            _fetch(spec, mirror, list(wanting), folder_of(spec, cache), place)
        except MirrorFailed as reason:
            failures.append(f"{mirror.label}: {reason}")
            report(f"{spec.name}: skipped {failures[-1]}")
        shutil.rmtree(place, ignore_errors=True)
    if wanting := _wanting(spec, cache):
        raise SourceError(_all_failed(spec, cache, failures, wanting))
    report(f"{spec.name}: acquired and verified ({folder_of(spec, cache)})")


def _fetch(spec: SourceSpec, mirror: Mirror, names: list[str], folder: Path, work: Path) -> None:
    """Fetch, decode and verify files from one mirror, and put each into its place in one step."""
    (work / "archive").mkdir(parents=True)
    fetch = opener(mirror, spec.kind, work / "archive")
    packed: dict[str, Path] = {}
    for name in names:
        part, decoded = mirror.files[name], work / name
        try:
            if part.path not in packed:
                fetch(part.path, work / f"{len(packed)}.packed")
                packed[part.path] = work / f"{len(packed)}.packed"
            DECODERS[part.decode](packed[part.path], decoded)
        except BAD_CONTENT as error:
            if isinstance(error, OSError) and error.errno in OF_THE_DISK:
                raise
            raise MirrorFailed(f"{part.path} cannot be decoded ({type(error).__name__}: {error})") from error
        _publish(decoded, folder / name, spec.files[name])


def _publish(decoded: Path, target: Path, expected: str) -> None:
    if (found := sha256_of(decoded)) != expected:
        raise MirrorFailed(f"wrong content for {target.name}: sha256 {found}, expected {expected}")
    decoded.replace(target)


def _all_failed(spec: SourceSpec, cache: Path, failures: list[str], wanting: dict[str, str]) -> str:
    tried = "\n".join(f"  {number}. {failure}" for number, failure in enumerate(failures, 1))
    files = "\n".join(f"  {name}  sha256 {spec.files[name]}  ({state})" for name, state in wanting.items())
    return (
        f"source '{spec.name}' could not be acquired. Tried in this order:\n{tried}\n"
        f"To place it by hand, take it from {spec.origin} (or from a machine that has it), put these files,\n"
        f"decompressed, into\n  {folder_of(spec, cache)}\nand run the same command again:\n{files}"
    )


def _cache_unusable(spec: SourceSpec, cache: Path, error: OSError) -> str:
    where = error.filename or folder_of(spec, cache)
    return (
        f"source '{spec.name}' cannot be stored: {where}: {error.strerror or error}. Make room or get\n"
        f"write access there, or name another folder for the cache (now {cache}):\n"
        f"  export ONTOGENY_CACHE=/path/to/folder\nNothing half-written is left."
    )
