"""When a layer begins to tell classes apart: before a training and after it, and meanwhile.

A network learns digits. The states of its hidden layer are captured before and after that; their
divergences, measured against permuted labels, say which digits have states of their own. A monitor
follows the efficiency of both layers on the way.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from data import digits
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu import reporting

STEPS = 200
(train_images, train_labels), (test_images, test_labels) = (
    (torch.tensor(images).flatten(1), torch.tensor(labels).long()) for images, labels in digits(8)
)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 12), nn.ReLU(), nn.Linear(12, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


def divergences():
    """What the second hidden layer tells of the digits of the test images."""
    with ts.capture(model, "3") as run, torch.no_grad():
        right = (model(test_images).argmax(1) == test_labels).float().mean()
    found = ts.information.class_divergences(run["3"], test_labels.numpy(), rng=0)
    return found, float(right), run.report(float(right))


before, at_first, _ = divergences()
monitor = ts.StateMonitor(model, "ReLU", every_n_steps=2, window=5)
log = {}
for step in range(STEPS):
    batch = torch.randint(len(train_labels), (64,))
    loss = nn.functional.cross_entropy(model(train_images[batch]), train_labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    monitor.step()
    if (step + 1) % 10 == 0:
        log[monitor.global_step] = monitor.scalars()
monitor.remove()
after, in_the_end, report = divergences()

print(report)
pairs = np.triu_indices(10, 1)
print("\n         accuracy   pairs of digits told apart   divergence beyond the null, mean")
for name, found, accuracy in (("before", before, at_first), ("after", after, in_the_end)):
    told = (found.p_value[pairs] <= 0.05).sum()
    beyond = (found.divergence - found.null)[pairs].mean()
    print(f"{name:6} {accuracy:10.1%} {told:18} of {len(pairs[0])} {beyond:28.2f} bits")

# ---- pictures ------------------------------------------------------------------------------------
figure, (a, b, c) = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
reporting.plot_class_divergences(before, ax=a).set_title("before the training")
reporting.plot_training(log, ax=b).set_title("meanwhile")
reporting.plot_class_divergences(after, ax=c).set_title("after it")
figure.savefig("class_overlap.png", dpi=70)
