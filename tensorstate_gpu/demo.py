"""The demo: trains LeNet-5 on handwritten digits, captures its convolutions, reports.

The network is that of the TensorState tutorial (20-50-100 neurons, ELU, batch normalisation, early
stopping). The data are the 1,797 handwritten digits of scikit-learn, enlarged from 8x8 to 28x28
pixels, or a local copy of MNIST.
"""

import gzip
import os
import pickle
from pathlib import Path
from typing import Any

try:
    import torch
    from torch import nn
except ImportError as error:
    raise ImportError(
        f"the demo needs {error.name}: pip install torch tqdm scikit-learn"
    ) from error

from tensorstate_gpu._capturing.capture_block import capture
from tensorstate_gpu._capturing.run import Run
from tensorstate_gpu._process.progress import Progress, ProgressCallback
from tensorstate_gpu.reporting import Report

BATCH = 200
PATIENCE = 5

Split = tuple[torch.Tensor, torch.Tensor]


class LeNet5(nn.Module):
    """LeNet-5 for 28x28 images; its first dense layer is a 4x4 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1, self.elu_1, self.norm_1 = _unit(1, 20, 5)
        self.maxp_1 = nn.MaxPool2d(2, stride=2)
        self.conv_2, self.elu_2, self.norm_2 = _unit(20, 50, 5)
        self.maxp_2 = nn.MaxPool2d(2, stride=2)
        self.conv_3, self.elu_3, self.norm_3 = _unit(50, 100, 4)
        self.flatten = nn.Flatten()
        self.pred = nn.Linear(100, 10)
        nn.init.kaiming_normal_(self.pred.weight)
        nn.init.zeros_(self.pred.bias)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, 10) for images (batch, 784) or (batch, 1, 28, 28)."""
        x = self.conv_1(data.view(-1, 1, 28, 28))
        x = self.conv_2(self.maxp_1(self.norm_1(self.elu_1(x))))
        x = self.conv_3(self.maxp_2(self.norm_2(self.elu_2(x))))
        logits: torch.Tensor = self.pred(self.flatten(self.norm_3(self.elu_3(x))))
        return logits


def _unit(channels: int, neurons: int, size: int) -> tuple[nn.Conv2d, nn.ELU, nn.BatchNorm2d]:
    convolution = nn.Conv2d(channels, neurons, size)
    nn.init.kaiming_normal_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution, nn.ELU(), nn.BatchNorm2d(neurons, eps=1e-5, momentum=0.9)


def main_job(mnist: str | None, seed: int, epochs: int) -> tuple[Run, Report]:
    """Train, capture and report. Deterministic for a given seed on one machine."""
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be from 0 to 2**63 - 1, got {seed}")
    torch.manual_seed(seed)
    train, valid = load_mnist(mnist) if mnist else load_digits()
    print(f"{len(train[0]):,} images to learn from, {len(valid[0]):,} to judge and capture with")
    model = LeNet5()
    accuracy = fit(model, train, valid, epochs)
    with (
        capture(model, attach_to="Conv2d") as run,
        Progress("capturing", len(valid[0]), "images") as progress,
    ):
        accuracy = evaluate(model, valid, run, progress.to)
    return run, run.report(accuracy)


def load_digits() -> tuple[Split, Split]:
    """Return scikit-learn's digits as 28x28 images: 1,297 to train with, 500 to validate with."""
    try:
        from sklearn.datasets import load_digits as sklearn_digits
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn: pip install torch tqdm scikit-learn"
        ) from error
    digits = sklearn_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    images = nn.functional.interpolate(images, size=28, mode="bilinear").flatten(1)
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    chosen, held = order[:-500], order[-500:]
    return (images[chosen], labels[chosen]), (images[held], labels[held])


def load_mnist(path: str) -> tuple[Split, Split]:
    """Return the training and validation images of a local mnist.pkl.gz.

    The format is that of deeplearning.net.
    """
    file = Path(os.path.expanduser(path))
    file = file / "mnist.pkl.gz" if file.is_dir() else file
    try:
        with gzip.open(file, "rb") as stream:
            train, valid, _ = pickle.load(stream, encoding="latin-1")
        return _as_split(*train), _as_split(*valid)
    except (FileNotFoundError, IsADirectoryError, PermissionError, MemoryError):
        raise
    except Exception as error:  # unpickling an unrelated file can raise anything
        raise ValueError(f"{file} is not a copy of mnist.pkl.gz: {error}") from error


def _as_split(images: Any, labels: Any) -> Split:
    x = torch.as_tensor(images, dtype=torch.float32)
    y = torch.as_tensor(labels, dtype=torch.int64)
    if x.ndim != 2 or x.shape[1] != 784 or not len(x) or y.shape != x.shape[:1]:
        raise ValueError(f"images {tuple(x.shape)} with labels {tuple(y.shape)}")
    if not 0 <= int(y.min()) <= int(y.max()) <= 9:
        raise ValueError("labels are not digits")
    return x, y


def fit(model: nn.Module, train: Split, valid: Split, epochs: int) -> float:
    """Train until the validation accuracy has not improved for PATIENCE epochs; return the best."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005, nesterov=True
    )
    best, waited = 0.0, 0
    with Progress("training", epochs, "epochs") as progress:
        for _ in range(epochs):
            _train_epoch(model, optimizer, *train)
            accuracy = evaluate(model, valid)
            progress.add(1, note=f"accuracy {accuracy:.1%}")
            waited = 0 if accuracy > best else waited + 1
            best = max(best, accuracy)
            if waited == PATIENCE:
                break
    return best


def _train_epoch(
    model: nn.Module, optimizer: Any, images: torch.Tensor, labels: torch.Tensor
) -> None:
    model.train()
    for batch in torch.split(torch.randperm(len(labels)), BATCH):
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Split,
    run: Run | None = None,
    progress: ProgressCallback | None = None,
) -> float:
    """Return the share of images that are classified correctly; label them in ``run``, if given.

    ``progress`` is called with the number of images classified so far.
    """
    model.eval()
    images, labels = data
    right = 0
    for start in range(0, len(labels), BATCH):
        batch = slice(start, start + BATCH)
        if run is not None:
            run.labels(labels[batch])
        right += int((model(images[batch]).argmax(1) == labels[batch]).sum())
        if progress is not None:
            progress(min(start + BATCH, len(labels)))
    return right / len(labels)
