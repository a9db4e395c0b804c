"""A small study after the paper: what do width, norm, dropout and wrong labels do to efficiency?

Trains LeNet-5 of several widths on digits, with and without batch normalisation and dropout, with
0, 25 and 75 % of the training labels drawn at random. Prints one table, and draws one picture,
efficiency_study.svg. It takes some minutes; ``--quick`` trains four networks for
three epochs.
"""

import argparse
import itertools
from dataclasses import dataclass

import torch
from data import digits
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu import information, neurons

BATCH = 100
WIDTHS = {"1/4": (5, 12, 25), "1/2": (10, 25, 50), "1": (20, 50, 100)}
RANDOM_SHARES = (0.0, 0.25, 0.75)
COLORS = {0.0: "#1b7837", 0.25: "#e08214", 0.75: "#b2182b"}
RADII = {"1/4": 4, "1/2": 6, "1": 9}


@dataclass(frozen=True)
class Network:
    width: str
    norm: bool
    dropout: bool
    random: float  # the share of training labels that are drawn at random

    def build(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        channels = 1
        for count, size in zip(WIDTHS[self.width], (5, 5, 4), strict=True):
            layers += [nn.Conv2d(channels, count, size), nn.ReLU()]
            layers += [nn.BatchNorm2d(count)] if self.norm else []
            layers += [nn.MaxPool2d(2)] if size == 5 else []
            channels = count
        layers += [nn.Flatten(), *([nn.Dropout(0.5)] if self.dropout else [])]
        return nn.Sequential(*layers, nn.Linear(channels, 10))


@dataclass(frozen=True)
class Result:
    network: Network
    learned: float  # accuracy on the labels that it was trained with
    accuracy: float  # on images that it has not seen, with their true labels
    efficiency: float
    aiq: float
    coverage: float  # the lowest of the layers
    dead: float  # the share of neurons that never fire

    def cells(self) -> list[str]:
        of = self.network
        how = [of.width, "yes" if of.norm else "", "yes" if of.dropout else "", f"{of.random:.0%}"]
        shares = (self.learned, self.accuracy, self.efficiency, self.aiq, self.dead)
        return [*how, *(f"{100 * share:.1f} %" for share in shares), f"{self.coverage:.2f}"]


HEADINGS = ["width", "norm", "dropout", "random labels", "accuracy learned", "accuracy"]
HEADINGS += ["efficiency", "aIQ", "dead", "least coverage"]


def measure(network: Network, train: tuple, test: tuple, epochs: int) -> Result:
    torch.manual_seed(0)
    images, labels = train
    chosen = torch.rand(len(labels)) < network.random
    learned = torch.where(chosen, torch.randint(0, 10, labels.shape), labels)
    model = network.build()
    fit(model, images, learned, epochs)
    with ts.capture(model, "Conv2d") as run:
        accuracy = accuracy_of(model, *test)
    layers = [run[name] for name in run]
    efficiency = ts.network_efficiency(run)
    dead = sum(len(neurons.dead(layer)) for layer in layers)
    return Result(
        network,
        accuracy_of(model, images, learned),
        accuracy,
        efficiency,
        ts.aIQ(efficiency, accuracy, 2),
        min(information.coverage(layer.histogram()) for layer in layers),
        dead / sum(layer.neurons for layer in layers),
    )


def fit(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(labels)), BATCH):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def accuracy_of(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    model.eval()
    parts = zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True)
    right = sum(int((model(x).argmax(dim=1) == y).sum()) for x, y in parts)
    return right / len(labels)


def table(results: list[Result]) -> str:
    rows = [HEADINGS, *(result.cells() for result in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    lines = ("  ".join(f"{cell:>{n}}" for cell, n in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(lines)


def picture(results: list[Result]) -> str:
    """Accuracy over efficiency, as SVG: colours are random labels, sizes are widths."""
    left, right = (bound(result.efficiency for result in results) for bound in (min, max))
    low, high = (bound(result.accuracy for result in results) for bound in (min, max))

    def x_of(efficiency: float) -> float:
        return 70 + 500 * (efficiency - left) / max(right - left, 1e-9)

    def y_of(accuracy: float) -> float:
        return 330 - 300 * (accuracy - low) / max(high - low, 1e-9)

    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="760" height="400" font-size="13" ']
    parts += ['font-family="sans-serif"><rect width="760" height="400" fill="white"/>']
    parts += ['<path d="M50 20V350H600" fill="none" stroke="black"/>']
    for share in (left, right):
        parts.append(f'<text x="{x_of(share) - 15:.0f}" y="368">{share:.0%}</text>')
    for share in (low, high):
        parts.append(f'<text x="10" y="{y_of(share) + 5:.0f}">{share:.0%}</text>')
    parts.append('<text x="260" y="390">network efficiency</text>')
    parts.append('<text x="55" y="18">accuracy</text>')
    for result in results:
        of = result.network
        line = "black" if of.norm else "none"
        dashes = ' stroke-dasharray="2"' if of.dropout else ""
        parts.append(
            f'<circle cx="{x_of(result.efficiency):.1f}" cy="{y_of(result.accuracy):.1f}" '
            f'r="{RADII[of.width]}" fill="{COLORS[of.random]}" fill-opacity="0.7" '
            f'stroke="{line}"{dashes}/>'
        )
    for i, (share, color) in enumerate(COLORS.items()):
        parts.append(f'<circle cx="625" cy="{40 + 22 * i}" r="6" fill="{color}"/>')
        parts.append(f'<text x="638" y="{45 + 22 * i}">{share:.0%} random</text>')
    for i, (width, radius) in enumerate(RADII.items()):
        parts.append(f'<circle cx="625" cy="{126 + 24 * i}" r="{radius}" fill="grey"/>')
        parts.append(f'<text x="638" y="{131 + 24 * i}">width {width}</text>')
    parts.append('<text x="612" y="215">black edge: norm</text>')
    parts.append('<text x="612" y="235">dashed: with dropout</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="four networks, three epochs")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # these networks are small: more threads mostly wait for each other
    train, test = (
        (torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels).long())
        for images, labels in digits(28)
    )
    every = itertools.product(WIDTHS, (False, True), (False, True), RANDOM_SHARES)
    networks = [Network(*each) for each in every]
    if arguments.quick:
        networks = [
            Network(width, True, False, share) for width in ("1/4", "1/2") for share in (0.0, 0.75)
        ]
    epochs = 3 if arguments.quick else arguments.epochs
    results = [measure(network, train, test, epochs) for network in networks]
    print(f"{len(train[1]):,} images to learn from, {len(test[1]):,} to judge and capture with")
    print(table(results))
    with open("efficiency_study.svg", "w", encoding="utf-8") as file:
        file.write(picture(results))


if __name__ == "__main__":
    main()
