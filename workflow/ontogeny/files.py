"""Atomic writes, and folders whose manifest lets the next stage see a damaged file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ontogeny.errors import DamagedFile, OntogenyError

if TYPE_CHECKING:
    import torch

MANIFEST = "manifest.json"


def sha256(path: Path) -> str:
    """Hex digest of the bytes of `path`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` if the block succeeds, and vanishes if not.

    Raises OntogenyError when the disk refuses (full, read-only).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OntogenyError(f"{path}: cannot be written ({reason}). Free the disk and run again.") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as sorted, indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the JSON in `path`. Raises DamagedFile if it is missing or cut short."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from error


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a parquet file atomically; the same table gives the same bytes."""
    with atomic(path) as temporary:
        table.reset_index(drop=True).to_parquet(temporary, engine="pyarrow", compression="zstd", index=False)


def read_table(path: Path) -> pd.DataFrame:
    """Return the table in `path`. Raises DamagedFile if it is missing, cut short or not parquet."""
    try:
        return pd.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, reason: str) -> DamagedFile:
    """The error for a file of an earlier stage that cannot be used, with the way out."""
    return DamagedFile(f"{path}: is missing or damaged ({reason}). Remove it (rm -r '{path}') and run again.")


class OutFolder:
    """A folder that is being written: everything lands in `path` at once, with its manifest, or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = path.with_name(f".{path.name}.part")
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)

    def save_arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Save named arrays as npz (no pickles)."""
        with atomic(self.work / name) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    def save_tensors(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Save named tensors as safetensors."""
        with atomic(self.work / name) as temporary:
            write_tensors(temporary, tensors)

    def save_table(self, name: str, table: pd.DataFrame) -> None:
        """Save a table as parquet."""
        write_table(self.work / name, table)

    def save_json(self, name: str, content: Any) -> None:
        """Save plain values as JSON."""
        write_json(self.work / name, content)

    def adopt(self, folder: Path) -> None:
        """Copy the files of `folder` into this one."""
        for source in sorted(folder.glob("*")):
            with atomic(self.work / source.name) as temporary:
                shutil.copyfile(source, temporary)

    def publish(self) -> None:
        """Write the manifest and put the folder in its place."""
        digests = {file.name: sha256(file) for file in sorted(self.work.iterdir())}
        write_json(self.work / MANIFEST, digests)
        shutil.rmtree(self.path, ignore_errors=True)
        self.work.replace(self.path)


class Folder:
    """A published folder. Each file is held against the manifest when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, str] = read_json(path / MANIFEST)

    def file(self, name: str) -> Path:
        """The path of a file whose content matches the manifest. Raises DamagedFile."""
        path = self.path / name
        if name not in self.manifest:
            raise damaged(path, "the folder's manifest does not list it")
        if not path.exists():
            raise damaged(self.path, f"its file {name} is missing")
        if sha256(path) != self.manifest[name]:
            raise damaged(self.path, f"its file {name} is not what the manifest says")
        return path

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an npz file."""
        with np.load(self.file(name), allow_pickle=False) as content:
            return dict(content)

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of a safetensors file, on the CPU."""
        return read_tensors(self.file(name))

    def table(self, name: str) -> pd.DataFrame:
        """The table of a parquet file."""
        return read_table(self.file(name))

    def json(self, name: str) -> Any:
        """The content of a JSON file."""
        return read_json(self.file(name))


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Save named tensors (any device, any stride) as safetensors, in sorted order."""
    from safetensors.torch import save_file  # torch takes two seconds to import, and most stages do without

    ready = {key: tensors[key].detach().cpu().contiguous().clone() for key in sorted(tensors)}
    save_file(ready, path, metadata=metadata)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file. Raises DamagedFile."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise damaged(path, str(error)) from error
