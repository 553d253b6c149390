"""From what a mirror delivers to the declared files."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

IDX_UINT8 = 0x0800


def idx_header(shape: tuple[int, ...]) -> bytes:
    """Return the header of a uint8 array in an idx file: magic number and sizes, big-endian int32."""
    return struct.pack(f">{1 + len(shape)}i", IDX_UINT8 + len(shape), *shape)


def _write_idx(array: np.ndarray, target: Path) -> None:
    if array.min(initial=0) < 0 or array.max(initial=0) > 255:
        raise ValueError("values outside 0..255")
    target.write_bytes(idx_header(array.shape) + np.ascontiguousarray(array, dtype=np.uint8).tobytes())


def _raw(packed: Path, target: Path) -> None:
    shutil.copyfile(packed, target)


def _gzip(packed: Path, target: Path) -> None:
    with gzip.open(packed, "rb") as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _idx_images(packed: Path, target: Path) -> None:
    """Parquet column ``image`` (struct with encoded ``bytes``, grey) -> idx, shape (rows, height, width)."""
    import pandas as pd
    from PIL import Image

    column = pd.read_parquet(packed, columns=["image"])["image"]
    _write_idx(np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in column]), target)


def _idx_labels(packed: Path, target: Path) -> None:
    """Parquet column ``label`` (integers 0..255) -> idx of shape (rows,)."""
    import pandas as pd

    _write_idx(pd.read_parquet(packed, columns=["label"])["label"].to_numpy(), target)


DECODERS: dict[str, Callable[[Path, Path], None]] = {
    "raw": _raw,
    "gzip": _gzip,
    "idx-images": _idx_images,
    "idx-labels": _idx_labels,
}
