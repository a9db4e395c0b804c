"""Shared layers: one encoder sees both images of a pair; each of its calls has a capture point.

A small network learns whether two digits are the same. Its encoder is called twice in each pass,
with the same weights, so the report has two rows for each of its layers. The states of both calls
say how the network decides: the codes of two equal digits differ in fewer bits.
"""

import matplotlib.pyplot as plt
import torch
from data import digits
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu import information


class Pairs(nn.Module):
    """Tells whether two images show the same digit, from how their codes differ."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU())
        self.head = nn.Linear(24, 1)

    def forward(self, left, right):
        return self.head((self.encoder(left) - self.encoder(right)).abs())[:, 0]


def pairs(images, labels, number):
    """Images, others of which half are of the same digit, and whether they are."""
    left, right = torch.randint(len(labels), (2, number))
    for place in range(0, number, 2):
        alike = (labels == labels[left[place]]).nonzero()[:, 0]
        right[place] = alike[torch.randint(len(alike), ())]
    return images[left], images[right], labels[left] == labels[right]


train, test = (
    (torch.from_numpy(images).flatten(1), torch.from_numpy(labels)) for images, labels in digits(8)
)
torch.manual_seed(0)
model = Pairs()
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
left, right, same = pairs(*train, 12_000)
for step in torch.arange(12_000).split(100) * 4:
    predicted = model(left[step], right[step])
    loss = nn.functional.binary_cross_entropy_with_logits(predicted, same[step].float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

left, right, same = pairs(*test, 2000)
with ts.capture(model, "ReLU") as run, torch.no_grad():
    accuracy = ((model(left, right) > 0) == same).float().mean().item()
print(run.report(accuracy))

first, second = run["encoder.3"], run["encoder.3:2"]
apart = information.js_divergence(first.histogram(), second.histogram())
print(f"left and right are from the same source: their states are {apart:.2f} bits apart (JS)")
distances = ts.popcount(ts.bits.bitwise_xor(first.raw_states, second.raw_states))
for word, chosen in (("the same digit", same), ("different digits", ~same)):
    print(f"{word}: codes differ in {distances[chosen.numpy()].mean():.1f} of 24 bits")

_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
kinds = {"the same digit": ("#0072B2", ""), "different digits": ("#E69F00", "//")}
for (word, (colour, hatch)), chosen in zip(kinds.items(), (same, ~same), strict=True):
    bins = [step - 0.5 for step in range(distances.max() + 2)]
    ax.hist(
        distances[chosen.numpy()], bins, alpha=0.7, color=colour, hatch=hatch, label=word, ec="w"
    )
ax.set(xlabel="bits in which the codes of two images differ", ylabel="pairs")
ax.legend(frameon=False)
ax.figure.savefig("shared_layers.png", dpi=80)
