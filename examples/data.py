"""Real images for the examples.

Nothing is downloaded: the examples use data that Keras has downloaded before, otherwise
scikit-learn's digits.
"""

from pathlib import Path
from typing import Any

import numpy as np

Split = tuple[np.ndarray, np.ndarray]
DOWNLOADED = Path.home() / ".keras" / "datasets"


def mnist(side: int = 28) -> tuple[Split, Split]:
    """Training and test set: images (n, 28, 28, 1) with values from 0 to 1, and their labels."""
    if (DOWNLOADED / "mnist.npz").exists():
        import keras

        return tuple(
            ((images[..., None] / 255).astype("float32"), labels.astype("int32"))
            for images, labels in keras.datasets.mnist.load_data()
        )
    return digits(side)


def cifar10() -> tuple[Split, Split]:
    """CIFAR-10 images (n, 32, 32, 3) with values from 0 to 1; otherwise three-channel digits."""
    if any(DOWNLOADED.glob("cifar-10-batches-py*")):
        import keras

        return tuple(
            ((images / 255).astype("float32"), labels[:, 0].astype("int32"))
            for images, labels in keras.datasets.cifar10.load_data()
        )
    return tuple((np.repeat(images, 3, -1), labels) for images, labels in digits(32))


def cats_vs_dogs(side: int = 64) -> tuple[Split, Split]:
    """Cats and dogs (n, side, side, 3); otherwise digits in two classes, below 5 and from 5."""
    folder = DOWNLOADED / "cats_and_dogs_filtered"
    if folder.exists():
        import keras

        def load(part: str) -> Split:
            found = keras.utils.image_dataset_from_directory(folder / part, image_size=(side, side))
            images, labels = zip(*found.as_numpy_iterator(), strict=True)
            return np.concatenate(images) / 255, np.concatenate(labels)

        return load("train"), load("validation")
    parts: Any = digits(side)
    return tuple((np.repeat(x, 3, -1), (y >= 5).astype("int32")) for x, y in parts)


def digits(side: int) -> tuple[Split, Split]:
    """The 1,797 handwritten digits of scikit-learn, enlarged; the last 500 are the test set."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    places = (np.arange(side) * 8 // side)[:, None], np.arange(side) * 8 // side
    images = (found.images[:, places[0], places[1]] / 16).astype("float32")[order, ..., None]
    labels = found.target[order].astype("int32")
    return (images[:-500], labels[:-500]), (images[-500:], labels[-500:])
