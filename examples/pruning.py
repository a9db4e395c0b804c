"""Pruning by states: neurons that fire in no state of the training set are taken out.

The loss pushes activations towards zero, so some neurons end up firing never. They carry no
information: without them, the network computes the same with fewer weights, and its efficiency,
entropy divided by the number of neurons, is higher.
"""

import pandas as pd
import torch
from data import mnist
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu import reporting

(x, y), (test_x, test_y) = (
    (torch.from_numpy(images).flatten(1), torch.from_numpy(labels).long())
    for images, labels in mnist(8)
)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(x.shape[1], 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(300):
    hidden = model[:2](x)
    loss = nn.functional.cross_entropy(model[2](hidden), y) + 0.03 * hidden.mean(0).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def measured(model):
    """The counts of the hidden layer on the training set, and what is right of the test set."""
    monitor = ts.StateMonitor(model, "ReLU", states_per_step=None)
    with torch.no_grad(), monitor.during("all"):
        model(x)
    monitor.remove()
    right = (model(test_x).argmax(1) == test_y).float().mean()
    counts = monitor.counts("1", "all")
    print(
        f"{counts.neurons} neurons: {counts.entropy():.2f} bits, efficiency "
        f"{counts.efficiency():.1%}, accuracy {right:.1%}"
    )
    return counts


def pruned(model, counts):
    """The network without the neurons that never fire."""
    first, _, last = model
    keep = torch.ones(counts.neurons, dtype=torch.bool)
    keep[ts.neurons.dead(counts)] = False
    smaller = nn.Sequential(
        nn.Linear(first.in_features, int(keep.sum())),
        nn.ReLU(),
        nn.Linear(int(keep.sum()), last.out_features),
    )
    smaller.load_state_dict(
        {
            "0.weight": first.weight[keep],
            "0.bias": first.bias[keep],
            "2.weight": last.weight[:, keep],
            "2.bias": last.bias,
        }
    )
    return smaller


before = measured(model)
after = measured(pruned(model, before))

# A figure takes any table that has its columns: here a row for each neuron of both networks.
rates = {"before": ts.neurons.firing_rates(before), "after": ts.neurons.firing_rates(after)}
table = pd.concat(
    pd.DataFrame({"layer": name, "rate": rates_of}) for name, rates_of in rates.items()
)
reporting.plot_firing_rates(table).figure.savefig("pruning.png", dpi=80)
