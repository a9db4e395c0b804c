"""Checkpoint, restore and go on: a training that stops in between has each input once in its store.

A network learns digits for 120 steps, and each of them is captured into a store on disk. Every 20
steps, the store commits and a checkpoint is saved. The training is interrupted twice. What came
after the last checkpoint is trained again, and ``store.rewind`` makes the store forget it first:
in the end, the store has exactly what a training without interruption would have captured.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from data import digits
from torch import nn

import tensorstate_gpu as ts

STEPS, EVERY, BATCH = 120, 20, 64
images, labels = (torch.from_numpy(array) for array in digits(8)[0])


def train(folder, interrupted_at=STEPS):
    """Train to the end or to an interruption, from the checkpoint in the folder if there is one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    checkpoint = folder / "checkpoint.pt"
    saved = {"step": 0, "inputs": 0}
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    with (
        ts.Store(folder / "states.zarr", mode="a") as store,
        ts.capture(model, "ReLU", storage_path=store) as run,
    ):
        forgotten = run.instance_count - saved["inputs"]
        store.rewind(saved["inputs"])
        if saved["step"]:
            print(f"goes on at step {saved['step']}; the store forgets {forgotten} inputs")
        for step in range(saved["step"], interrupted_at):
            chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(step))
            x, y = images[chosen[:BATCH]], labels[chosen[:BATCH]].long()
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % EVERY == 0:
                store.commit()  # first: a checkpoint must not know inputs that the store has lost
                saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(saved | {"step": step + 1, "inputs": run.instance_count}, checkpoint)
    print(f"trained to step {interrupted_at}: the store has {store['2'].instance_count:,} inputs")
    return store


for name in ("whole", "parts"):
    Path(name).mkdir()
whole = train(Path("whole"))
for stop in (33, 95, STEPS):
    parts = train(Path("parts"), stop)
same = (whole["2"][:] == parts["2"][:]).all()
print(f"the states are those of a training that was never interrupted: {same}")
print(ts.Store("parts/states.zarr").report())

ends = range(EVERY, STEPS + 1, EVERY)
inputs = [slice((end - EVERY) * BATCH, end * BATCH) for end in ends]
efficiency = [100 * parts["2"].histogram(each).efficiency() for each in inputs]
_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
ax.plot(ends, efficiency, "o-", color="#0072B2", label="each 20 steps, from the store")
for stop in (33, 95):
    ax.axvline(stop, color="#D55E00", linestyle=":")
    ax.annotate("interrupted", (stop, min(efficiency)), color="#D55E00", rotation=90, ha="right")
ax.set(xlabel="steps", ylabel="efficiency in %")
ax.legend(frameon=False)
ax.figure.savefig("checkpoint_and_resume.png", dpi=80)
