"""Information theory of what a model answers: entropy, cross-entropy and divergences of outputs.

A classifier's output is a distribution over classes. This example trains a small one on handwritten
digits, in seconds, and asks in bits: how sure is it, what does a label cost it, how far do its
answers move when the images become noisy? The states of its hidden layer are captured on the way,
and their efficiency is given with its error.

The measures are the functions that count states: a distribution over ten classes is to them what a
histogram of states is. Needs torch and scikit-learn.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu import information


def trained(images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """A network of one hidden layer, after 200 steps."""
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def answers(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """The distribution over the classes for each image: (images, 10)."""
    return model(images).double().softmax(1).numpy()


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels))
    train, test = order[:-500], order[-500:]
    model = trained(images[train], labels[train])

    with ts.capture(model, "ReLU") as run:
        clean = answers(model, images[test])
    truth = np.eye(10)[labels[test]]
    right = clean.argmax(1) == labels[test].numpy()
    print(f"accuracy {100 * right.mean():.1f} %")

    # Entropy: how undecided an answer is. 0 bits: certain; log2(10) = 3.32 bits: no idea.
    entropies = np.array([ts.entropy(answer) for answer in clean])
    print(f"entropy of right answers {entropies[right].mean():.2f} bits")
    print(f"entropy of wrong answers {entropies[~right].mean():.2f} bits")

    # Cross-entropy: the bits that the answer needs to name the label. Its mean is the loss.
    costs = [information.cross_entropy(*pair) for pair in zip(truth, clean, strict=True)]
    print(f"cross-entropy with labels {np.mean(costs):.3f} bits")

    # Divergence: how far answers move when pixels become noisy. KL has no upper limit, and has a
    # direction; JS is at most 1 bit, and has none.
    for noise in (0.1, 0.3, 0.5):
        noisy = answers(model, images[test] + noise * torch.randn(500, 64))
        pairs = list(zip(clean, noisy, strict=True))
        kl = np.mean([information.kl_divergence(*pair) for pair in pairs])
        js = np.mean([information.js_divergence(*pair) for pair in pairs])
        print(f"noise {noise}: KL divergence {kl:.3f} bits, JS divergence {js:.3f} bits")

    # The hidden layer, of which 500 images are only a sample.
    found = run["1"].estimate("efficiency")
    low, high = 100 * found.lower, 100 * found.upper
    print(
        f"efficiency of the hidden layer: {100 * found.plugin:.1f} % in the sample, "
        f"{low:.1f} to {high:.1f} % of unlimited images ({found.quality})"
    )

    _, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    kinds = (("right", right, "#0072B2", ""), ("wrong", ~right, "#E69F00", "//"))
    for word, chosen, colour, hatch in kinds:
        share = np.full(chosen.sum(), 100 / chosen.sum())
        looks = {"color": colour, "hatch": hatch, "alpha": 0.7, "ec": "w"}
        ax.hist(entropies[chosen], np.arange(0, 3.4, 0.2), weights=share, label=word, **looks)
    ax.set(xlabel="entropy of an answer in bits", ylabel="% of right, % of wrong answers")
    ax.legend(frameon=False)
    ax.figure.savefig("output_distributions.png", dpi=80)


if __name__ == "__main__":
    main()
