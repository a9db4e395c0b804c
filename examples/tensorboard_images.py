"""TensorBoard: scalars of a training, and histograms and images of what its layers do.

View them with: tensorboard --logdir runs (``pip install tensorboard``)
"""

import matplotlib.pyplot as plt
import torch
from data import mnist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

import tensorstate_gpu as ts
from tensorstate_gpu import neurons, reporting

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
writer = SummaryWriter("runs")
rates = []

for epoch in range(6):
    for x, y in DataLoader(train, batch_size=32, shuffle=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    with ts.capture(model, "ReLU") as run, torch.no_grad():
        x, y = test.tensors
        accuracy = float((model(x).argmax(1) == y).float().mean())
    report = run.report(accuracy)
    rates.append(neurons.firing_rates(run["1"]))
    writer.add_scalar("efficiency", report.network_efficiency, epoch)
    for name, point in run.items():
        writer.add_histogram(f"firing rates/{name}", neurons.firing_rates(point), epoch)
    # A figure becomes an image, which TensorBoard shows with a slider for the epochs.
    writer.add_figure("efficiency", reporting.plot_efficiency(report).figure, epoch)
    writer.add_figure("correlations", reporting.plot_correlations(run["1"]).figure, epoch)
writer.close()
print(report)
print("scalars, histograms and images of 6 epochs: tensorboard --logdir runs")

# The picture of this example: the histograms that TensorBoard shows.
_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
ax.violinplot([100 * each for each in rates], range(1, 7), showmedians=True)
ax.set(xlabel="epoch", ylabel="firing rates of the first layer in %", ylim=(0, 101))
ax.figure.savefig("tensorboard_images.png", dpi=80)
