"""Small PyTorch models of which it is known where their neurons are at the end."""

import torch
import torch.nn.functional as F
from torch import nn


class Calls(nn.Module):
    """A model that is a function of its input and its layers; what it returns went through act."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.act = nn.ReLU()

    def forward(self, *inputs):
        return self.act(self.function(self, *inputs))


class LayerNorm2d(nn.LayerNorm):
    """A norm of channels that are axis 1, as in ConvNeXt."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def attention(model, x):
    q, k, v = model.qkv(x).reshape(2, 7, 3, 4, 5).permute(2, 0, 3, 1, 4)
    return (F.softmax(q @ k.transpose(-2, -1), -1) @ v).transpose(1, 2).reshape(2, 7, 20)


def windows(model, x):
    """Swin's: (batch * windows, positions, channels)."""
    x = torch.roll(model.fc(x), (-1, -1), (1, 2))
    return x.view(2, 2, 3, 2, 4, 9).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 12, 9)
