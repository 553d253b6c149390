"""MNIST as vectors of grey values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ontogeny.files import OutFolder
from ontogeny.mnist import load_mnist
from ontogeny.sources import Sources
from ontogeny.studies.power_law_interference.settings import DataSettings


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write images.npz: {train,test}_images (n, pixels) and {train,test}_labels (n,), all uint8."""
    mnist = load_mnist(sources["mnist"])
    out.save_arrays(
        "images.npz",
        train_images=vectors(mnist.train_images, settings.padding, settings.pool),
        train_labels=mnist.train_labels,
        test_images=vectors(mnist.test_images, settings.padding, settings.pool),
        test_labels=mnist.test_labels,
    )


def vectors(images: NDArray[np.uint8], padding: int, pool: int) -> NDArray[np.uint8]:
    """Pad (n, side, side) with zeros, average over squares of `pool` pixels, round: (n, pixels)."""
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding)))
    side = padded.shape[1] // pool
    squares = padded.reshape(len(images), side, pool, side, pool)
    total = squares.sum((2, 4), dtype=np.uint32)
    return ((2 * total + pool**2) // (2 * pool**2)).astype(np.uint8).reshape(len(images), side * side)
