"""Two digits of MNIST, pooled, as standardised vectors with targets -1 and +1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ontogeny.files import OutFolder
from ontogeny.mnist import load_mnist
from ontogeny.sources import Sources
from ontogeny.studies.high_dim_generalization.settings import DataSettings

Images = NDArray[np.uint8]


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write digits.npz: {train,test}_images (n, pixels) float32 and {train,test}_targets (n,) float32.

    Pixels are centred, and scaled by one common factor so that their mean square is 1, as of the training images.
    """
    mnist = load_mnist(sources["mnist"])
    train, train_targets = chosen(mnist.train_images, mnist.train_labels, settings)
    test, test_targets = chosen(mnist.test_images, mnist.test_labels, settings)
    centre, scale = train.mean(axis=0), train.std(axis=0)
    spread = np.sqrt((scale**2).mean())
    out.save_arrays(
        "digits.npz",
        train_images=((train - centre) / spread).astype(np.float32),
        train_targets=train_targets,
        test_images=((test - centre) / spread).astype(np.float32),
        test_targets=test_targets,
    )


def chosen(images: Images, labels: Images, settings: DataSettings) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Images of the two digits as vectors of mean grey values of squares, and their targets."""
    first, second = settings.digits
    wanted = (labels == first) | (labels == second)
    side = images.shape[1] // settings.pool
    squares = images[wanted].reshape(-1, side, settings.pool, side, settings.pool)
    targets = np.where(labels[wanted] == second, 1, -1).astype(np.float32)
    return squares.mean(axis=(2, 4)).reshape(len(targets), side * side), targets
