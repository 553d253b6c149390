"""MNIST as arrays, in the original order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ontogeny.errors import DamagedFile
from ontogeny.sources import SourceFiles
from ontogeny.sources.decode import idx_header


@dataclass(frozen=True)
class Mnist:
    """Grey values 0..255 and digits 0..9, all uint8."""

    train_images: NDArray[np.uint8]  # (60000, 28, 28)
    train_labels: NDArray[np.uint8]  # (60000,)
    test_images: NDArray[np.uint8]  # (10000, 28, 28)
    test_labels: NDArray[np.uint8]  # (10000,)


def load_mnist(files: SourceFiles) -> Mnist:
    """Return the whole of MNIST from the verified files of the source ``mnist``.

    Raises DamagedFile if a file is missing or altered.
    """
    return Mnist(
        train_images=read_idx(files.path("train-images-idx3-ubyte"), (60_000, 28, 28)),
        train_labels=read_idx(files.path("train-labels-idx1-ubyte"), (60_000,)),
        test_images=read_idx(files.path("t10k-images-idx3-ubyte"), (10_000, 28, 28)),
        test_labels=read_idx(files.path("t10k-labels-idx1-ubyte"), (10_000,)),
    )


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read a uint8 array of this shape from an idx file; the array may be written to.

    Raises DamagedFile if the file holds something else.
    """
    header = idx_header(shape)
    content = bytearray(path.read_bytes())
    if content[: len(header)] != header or len(content) != len(header) + np.prod(shape):
        raise DamagedFile(f"{path}: not an idx file of uint8 with shape {shape}")
    return np.frombuffer(content, dtype=np.uint8, offset=len(header)).reshape(shape)
