"""The cache that checkouts share, the receipts of what lies in it, and verified access to its files."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

from ontogeny.errors import DamagedFile, OntogenyError, did_you_mean

ACQUIRE_AGAIN = "snakemake --forcerun acquire"


class SourceError(OntogenyError):
    """A source could not be acquired, or the cache cannot be used."""


class Listed(Protocol):
    """What identifies the files of a source: a SourceSpec and a Receipt both do."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def files(self) -> Mapping[str, str]: ...


def cache_root() -> Path:
    """Return the folder of the cache: ``ONTOGENY_CACHE``, else ``ontogeny`` in the user's cache folder."""
    if given := os.environ.get("ONTOGENY_CACHE"):
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "ontogeny"


def folder_of(source: Listed, cache: Path) -> Path:
    """Return the folder of the cache in which the files of this version of the source lie."""
    return cache / f"{source.name}-{source.version}"


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Receipt:
    """What was acquired; the same bytes on every machine (no path, no time). ``files``: name -> sha256."""

    name: str
    kind: str
    version: str
    licence: str
    origin: str
    files: dict[str, str]

    def write(self, path: Path) -> None:
        """Write the receipt as json, whole or not at all."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w") as stream:
                stream.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @classmethod
    def read(cls, path: Path) -> Receipt:
        """Read a receipt. Raises DamagedFile if it is missing or not a receipt."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            way_out = f"Delete it and run again: rm {shlex.quote(str(path))}"
            raise DamagedFile(f"{path}: not a readable receipt of a source ({error}). {way_out}") from error


class SourceFiles:
    """The files of one source in the cache; each is verified against its sha256 before its first use."""

    def __init__(self, source: Listed, cache: Path) -> None:
        self.name = source.name
        self.folder = folder_of(source, cache)
        self._expected = dict(source.files)
        self._verified: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._expected)

    def path(self, name: str) -> Path:
        """Return the verified path of a file. Raises DamagedFile if it is missing or altered."""
        if name not in self._expected:
            hint = did_you_mean(name, self._expected)
            raise OntogenyError(f"source '{self.name}' has no file '{name}': {hint}")
        if name not in self._verified:
            self._verify(name)
            self._verified.add(name)
        return self.folder / name

    def _verify(self, name: str) -> None:
        path = self.folder / name
        try:
            found = sha256_of(path)
        except OSError as error:
            problem = f"cannot be read ({error.strerror}). Acquire it again: {ACQUIRE_AGAIN}"
            raise DamagedFile(f"{path}: the cached file of source '{self.name}' {problem}") from error
        if found != self._expected[name]:
            raise DamagedFile(
                f"{path}: the cached file of source '{self.name}' is damaged: sha256 {found}, "
                f"expected {self._expected[name]}. Delete it and acquire it again: "
                f"rm {shlex.quote(str(path))} && {ACQUIRE_AGAIN}"
            )


class BasePaths(NamedTuple):
    """Where the data and the finished runs of a base lie."""

    data: Path
    runs: tuple[Path, ...]


class Sources(dict[str, SourceFiles]):
    """The sources of a study by name: ``sources["mnist"].path("train-labels-idx1-ubyte")``.

    bases: what the study builds on, by slug; `ontogeny.bases.open_base` reads it.
    """

    bases: Mapping[str, BasePaths] = MappingProxyType({})

    @classmethod
    def open(cls, receipt_paths: Iterable[Path]) -> Sources:
        """Open the sources that these receipts describe, in the cache of this machine."""
        receipts = [Receipt.read(Path(path)) for path in receipt_paths]
        return cls({receipt.name: SourceFiles(receipt, cache_root()) for receipt in receipts})

    def __missing__(self, name: str) -> SourceFiles:
        raise OntogenyError(f"the study does not declare the source '{name}': {did_you_mean(name, self)}")
