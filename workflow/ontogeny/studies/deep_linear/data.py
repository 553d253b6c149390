"""Second moments of MNIST: all that a linear network ever sees of a data set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ontogeny.files import OutFolder
from ontogeny.mnist import load_mnist
from ontogeny.sources import Sources
from ontogeny.studies.deep_linear.settings import DataSettings

CLASSES = 10
SHOWN_PIXELS = slice(364, 392)  # row 13 of the 28 x 28 image, through its middle: a block of Sigma11 to look at

Array = NDArray[np.float64]


def prepare(settings: DataSettings, sources: Sources, out: OutFolder) -> None:
    """Write mnist.npz.

    Per block of images (B blocks), in the basis of the d leading principal components of all images:
    count (), x (B, d), xx (B, d, d), y (B, 10), yx (B, 10, d): sums over the images of x, x x^T, y, y x^T.
    For looking at: aligned (9, 9) = V^T Sigma11 V with V the right singular vectors of Sigma31 in pixel space,
    pixels (28, 28), a block of Sigma11 itself, and variances (d,), those of the components.
    """
    mnist = load_mnist(sources["mnist"])
    pixels = mnist.train_images[: settings.images].reshape(settings.images, -1).astype(np.float32) / 255
    pixels -= pixels.mean(axis=0, dtype=np.float64).astype(np.float32)
    targets = np.eye(CLASSES, dtype=np.float32)[mnist.train_labels[: settings.images]]
    covariance = (pixels.T @ pixels).astype(np.float64)
    variances, directions = np.linalg.eigh(covariance)
    basis = directions[:, ::-1][:, : settings.components]
    sums = block_sums(pixels @ basis.astype(np.float32), targets, settings.images_per_block)
    out.save_arrays(
        "mnist.npz",
        **sums,
        count=np.asarray(settings.images_per_block),
        aligned=aligned_covariance(pixels, targets, covariance),
        pixels=covariance[SHOWN_PIXELS, SHOWN_PIXELS],
        variances=variances[::-1][: settings.components],
    )


def block_sums(inputs: NDArray[np.floating], targets: NDArray[np.floating], size: int) -> dict[str, Array]:
    """Sums of x, x x^T, y and y x^T over consecutive blocks of `size` images; inputs (P, d), targets (P, 10)."""
    x = inputs.reshape(-1, size, inputs.shape[1])
    y = targets.reshape(-1, size, targets.shape[1])
    x_t, y_t = np.swapaxes(x, 1, 2), np.swapaxes(y, 1, 2)
    sums = {"x": x.sum(axis=1), "xx": x_t @ x, "y": y.sum(axis=1), "yx": y_t @ x}
    return {name: value.astype(np.float64) for name, value in sums.items()}


def aligned_covariance(pixels: NDArray[np.floating], targets: NDArray[np.floating], covariance: Array) -> Array:
    """V^T Sigma11 V, (9, 9): the inputs' covariance seen along the right singular vectors of Sigma31.

    Centred one-hot targets sum to zero, so that Sigma31 has one singular value less than there are classes.
    """
    cross = ((targets - targets.mean(axis=0)).T @ pixels).astype(np.float64)
    right = np.linalg.svd(cross, full_matrices=False)[2][: CLASSES - 1]
    return right @ covariance @ right.T
