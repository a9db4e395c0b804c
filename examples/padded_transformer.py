"""A small transformer: its padding is masked, and its phases, training and evaluation, compared.

It reads sentences of 4 to 20 letters and tells whether the last letter has occurred before. Short
sentences are padded. Padding is no input: its states are the network's answer to nothing, and
counting them would say something about the lengths of sentences. The mask, an argument of the
model, keeps them out. Dropout is a reason why states in training differ from those in evaluation.
"""

import pandas as pd
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu import reporting

LETTERS, LONGEST, WIDTH, HIDDEN = 12, 20, 32, 12


class Block(nn.Module):
    """Attention and a feed-forward part, each with a residual connection."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.hidden, self.relu, self.dropout = nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Dropout(0.2)
        self.out = nn.Linear(HIDDEN, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))

    def forward(self, x, padding):
        normed = self.norms[0](x)
        x = x + self.attention(normed, normed, normed, key_padding_mask=padding)[0]
        return x + self.out(self.dropout(self.relu(self.hidden(self.norms[1](x)))))


class Transformer(nn.Module):
    """Two blocks, and an answer at the first position."""

    def __init__(self):
        super().__init__()
        self.letters, self.places = nn.Embedding(LETTERS, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.first, self.second, self.head = Block(), Block(), nn.Linear(WIDTH, 1)

    def forward(self, letters, mask):
        x = self.letters(letters) + self.places(torch.arange(LONGEST))
        x = self.second(self.first(x, ~mask), ~mask)
        return self.head(x[:, 0])[:, 0]


def sentences(number):
    """Letters, the last one first; which of them are no padding; and whether the first recurs."""
    letters = torch.randint(LETTERS, (number, LONGEST))
    mask = torch.arange(LONGEST) < torch.randint(4, LONGEST + 1, (number, 1))
    recurs = ((letters[:, 1:] == letters[:, :1]) & mask[:, 1:]).any(1)
    return letters, mask, recurs


torch.manual_seed(0)
model = Transformer()
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
for _ in range(400):
    letters, mask, recurs = sentences(64)
    loss = nn.functional.binary_cross_entropy_with_logits(model(letters, mask), recurs.float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

letters, mask, recurs = sentences(600)
print(f"{mask.float().mean():.0%} of the positions are letters, the others padding")
reports = {}
for phase, options in {
    "train": {"mask": "mask", "when": "train"},
    "eval": {"mask": "mask", "when": "eval"},
    "eval, with padding": {"when": "eval"},
}.items():
    with ts.capture(model, ["*.dropout"], **options) as run, torch.no_grad():
        model.train()(letters, mask)
        accuracy = ((model.eval()(letters, mask) > 0) == recurs).float().mean().item()
    reports[phase] = run.report(accuracy)
    print(f"\n{phase}:\n{reports[phase]}")

# A figure takes any table that has the columns of a report's: here the rows of all three.
tables = [report.to_pandas() for report in reports.values()]
for table, phase in zip(tables, reports, strict=True):
    table["layer"] = [f"{name.partition('.')[0]}, {phase}" for name in table["layer"]]
table = pd.concat(tables).sort_values("layer")
reporting.plot_efficiency(table).figure.savefig("padded_transformer.png", dpi=80)
