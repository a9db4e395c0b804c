"""Models, inputs and labels as a user's module has them, for test_capture.py."""

import os
import time

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Dropout(), torch.nn.Linear(6, 3))
images = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
tensor = torch.tensor(images)
labels = np.arange(50) % 3
names = ["abc"[label] for label in labels]
few_labels = labels[:40]
many_labels = np.arange(60) % 3
no_images = images[:0]
number = 3


class Settings:
    inner = model


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = model[0], model[2]

    def forward(self, x, scale=1):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        return self.last(self.first(x * scale))


class Stopped(Net):
    def forward(self, x):
        raise KeyboardInterrupt


def made():
    return model


def loader():
    return DataLoader(TensorDataset(tensor), batch_size=16)


def pairs():
    return DataLoader(TensorDataset(tensor, torch.tensor(labels)), batch_size=16)


def shuffled():
    return DataLoader(TensorDataset(tensor), batch_size=16, shuffle=True)


def generator():
    for begin in range(0, 50, 7):
        yield tensor[begin : begin + 7]


def by_name():
    return [{"x": images[:20], "scale": 2}, {"x": images[20:], "scale": 2}]


def parts():
    return {"x": images, "scale": 2}


def uneven():
    return {"x": images, "mask": images[:30], "scale": 2}


def breaks():
    yield tensor[:10]
    raise KeyError("no more files")


def late():
    """A writer in the background has failed before the second batch."""
    yield tensor[:40]
    time.sleep(0.3)
    yield tensor[40:]


def stopped():
    yield tensor[:10]
    raise KeyboardInterrupt


def slow():
    """Once: after 30 inputs a file says that it waits, for Ctrl-C. Later: all inputs, at once."""
    for begin in range(0, 50, 10):
        if begin == 30 and not os.path.exists("waiting"):
            open("waiting", "w").close()
            time.sleep(600)
        yield tensor[begin : begin + 10]
