"""A training loop of your own in PyTorch, with charts of efficiency.

View them with: tensorboard --logdir runs (if TensorBoard is installed; else they are printed)
"""

import matplotlib.pyplot as plt
import torch
from data import mnist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tensorstate_gpu as ts

train, test = (
    TensorDataset(torch.from_numpy(x).flatten(1), torch.from_numpy(y).long()) for x, y in mnist(8)
)
torch.manual_seed(0)
pixels = train.tensors[0].shape[1]
model = nn.Sequential(
    *(nn.Linear(pixels, 32), nn.ReLU()),
    *(nn.Linear(32, 16), nn.ReLU()),
    nn.Linear(16, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
monitor = ts.StateMonitor(model, "ReLU", every_n_steps=10, window=5)

try:
    from torch.utils.tensorboard import SummaryWriter

    charts = SummaryWriter("runs")
except ImportError:
    charts = print

efficiencies = []
for epoch in range(5):
    model.train()
    for x, y in DataLoader(train, batch_size=32, shuffle=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        monitor.step()
    model.eval()
    monitor.reset("eval")
    with torch.no_grad():
        x, y = test.tensors
        accuracy = float((model(x).argmax(1) == y).float().mean())
    monitor.log(charts)
    now = monitor.scalars()
    efficiencies.append((now["train/efficiency"], now["eval/efficiency"]))
    print(
        f"epoch {epoch + 1}: accuracy {accuracy:.1%}, efficiency {now['train/efficiency']:.1%} in "
        f"training, {now['eval/efficiency']:.1%} on the test set"
    )
monitor.remove()

_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for phase, shares in zip(("training", "test set"), zip(*efficiencies, strict=True), strict=True):
    style = "o-" if phase == "training" else "s--"
    ax.plot(range(1, 6), [100 * share for share in shares], style, label=phase)
ax.set(xlabel="epoch", ylabel="efficiency in %")
ax.legend(frameon=False)
ax.figure.savefig("monitored_training.png", dpi=80)
