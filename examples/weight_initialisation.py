"""Initial weights: what naive ones, Xavier's and He's do to the layers of a deep network.

Eight layers of 100 tanh neurons, untrained, see 300 digits. Their efficiency tells nothing: nearly
every image has a state of its own, and 300 states can show no more than log2(300) / 100 = 8.2 %.
Two other numbers tell the three apart:

- the saturated share: activations beyond 0.9 or -0.9, where the gradient is below 0.2;
- firing rates: if they are all near 50 %, the layer has forgotten what the images have in common;
  if they are spread out, many neurons do nearly the same for all images.
"""

import math

import matplotlib.pyplot as plt
import pandas as pd
import torch
from data import digits
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu import neurons, reporting

DEPTH, WIDTH, LAST = 8, 100, 7
INITIAL = {
    "naive": lambda weight: nn.init.normal_(weight, std=1),
    "Xavier": nn.init.xavier_normal_,
    "He": nn.init.kaiming_normal_,
}


def is_saturated(x):
    return abs(x) > 0.9


def network(initialise):
    """Tanh layers of one width, without biases."""
    torch.manual_seed(0)
    model = nn.Sequential()
    for depth in range(DEPTH):
        model.append(nn.Linear(64 if depth == 0 else WIDTH, WIDTH, bias=False)).append(nn.Tanh())
        initialise(model[-2].weight)
    return model


@torch.no_grad()
def captured(model, images, **options):
    with ts.capture(model, "Tanh", **options) as run:
        model(images)
    return list(run.values())


images = torch.from_numpy(digits(8)[1][0][:300]).flatten(1)
images = (images - images.mean()) / images.std()
print(f"ceiling of the efficiency: {math.log2(300) / WIDTH:.1%}\n")
print("weights  layer  efficiency  saturated  spread of firing rates")
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
styles = (("#D55E00", "x:"), ("#0072B2", "o-"), ("#009E73", "s--"))
last_rates = []
for (name, initialise), (colour, style) in zip(INITIAL.items(), styles, strict=True):
    model = network(initialise)
    signs = captured(model, images)
    beyond = captured(model, images, firing=is_saturated)
    rates = [neurons.firing_rates(layer) for layer in signs]
    saturated = [neurons.firing_rates(layer).mean() for layer in beyond]
    for depth in (0, LAST // 2, LAST):
        print(
            f"{name:7}{depth + 1:7}{signs[depth].efficiency():12.1%}"
            f"{saturated[depth]:11.1%}{rates[depth].std():24.1%}"
        )
    percent = [100 * share for share in saturated]
    left.plot(range(1, DEPTH + 1), percent, style, color=colour, label=name)
    last_rates.append(pd.DataFrame({"layer": name, "rate": rates[LAST]}))
left.set(xlabel="layer", ylabel="saturated activations in %", ylim=(-2, 101))
left.legend(frameon=False)
reporting.plot_firing_rates(pd.concat(last_rates), ax=right)
right.set(xlabel="firing rates in the last layer in %")
figure.savefig("weight_initialisation.png", dpi=80)
