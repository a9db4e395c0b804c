"""LeNet-5 in PyTorch: train, capture states, print efficiencies and aIQ."""

import time

import torch
from data import mnist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tensorstate_gpu as ts
from tensorstate_gpu import reporting

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
train, valid = (
    TensorDataset(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y).long())
    for x, y in mnist()
)
train_batches = DataLoader(train, batch_size=200, shuffle=True)
valid_batches = DataLoader(valid, batch_size=200)
torch.manual_seed(0)


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_1, self.conv_2, self.conv_3 = (
            nn.Conv2d(*sizes) for sizes in ((1, 20, 5), (20, 50, 5), (50, 100, 4))
        )
        self.norm_1, self.norm_2, self.norm_3 = (
            nn.BatchNorm2d(neurons, momentum=0.9) for neurons in (20, 50, 100)
        )
        self.pool, self.flatten, self.pred = nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 10)

    def forward(self, x):
        x = self.pool(self.norm_1(nn.functional.elu(self.conv_1(x))))
        x = self.pool(self.norm_2(nn.functional.elu(self.conv_2(x))))
        x = self.norm_3(nn.functional.elu(self.conv_3(x)))
        return self.pred(self.flatten(x))


model = LeNet5().to(device)
optimizer = torch.optim.SGD(
    model.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005, nesterov=True
)


def run(batches, training):
    """Mean loss and accuracy over all batches."""
    model.train(training)
    losses, right = 0.0, 0
    with torch.set_grad_enabled(training):
        for x, y in batches:
            x, y = x.to(device), y.to(device)
            predictions = model(x)
            loss = nn.functional.cross_entropy(predictions, y)
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            losses += float(loss.detach()) * len(x)
            right += int((predictions.argmax(dim=1) == y).sum())
    return losses / len(batches.dataset), right / len(batches.dataset)


best, waited = 0.0, 0
for epoch in range(10):
    loss, _ = run(train_batches, training=True)
    _, accuracy = run(valid_batches, training=False)
    print(f"epoch {epoch + 1}: loss {loss:.4f}, accuracy {accuracy:.1%}")
    best, waited = (accuracy, 0) if accuracy > best else (best, waited + 1)
    if waited == 5:
        break

# ---- efficiency ----------------------------------------------------------------------------------
efficiency_model = ts.build_efficiency_model(model, attach_to=["Conv2d"], method="after")
start = time.perf_counter()
_, accuracy = run(valid_batches, training=False)
print(f"captured in {time.perf_counter() - start:.3f} s on {device}")

for layer in efficiency_model.efficiency_layers:
    print(f"{layer.name}: {layer.state_count:,} states, efficiency {layer.efficiency():.1%}")

network_efficiency = ts.network_efficiency(efficiency_model)
print(f"network efficiency {network_efficiency:.1%}, accuracy {accuracy:.1%}")
print(f"aIQ {ts.aIQ(network_efficiency, accuracy, 2):.1%}")
report = ts.report(efficiency_model, accuracy)
print(report)
reporting.plot_discovery(report).figure.savefig("pytorch_lenet5.png", dpi=80)
