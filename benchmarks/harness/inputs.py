"""What the benchmarks work on: activations of given shapes, packed states as often as wanted."""

from functools import cache
from typing import Any

import numpy as np

_BLOCK = 1 << 20


def activations(shape: tuple[int, ...], dtype: str) -> Any:
    """Normally distributed numbers, a block of them repeated: half of them fire."""
    block = np.random.default_rng(0).standard_normal(_BLOCK + 77, dtype=np.float32)
    if dtype == "bfloat16":  # NumPy has no such type
        import torch

        return torch.from_numpy(np.resize(block, shape)).to(torch.bfloat16)
    return np.resize(block.astype(dtype), shape)


def buffer(array: Any) -> np.ndarray:
    """The memory of a contiguous array, as 64-bit words; the last few bytes are left out."""
    if not isinstance(array, np.ndarray):
        import torch

        array = array.view(torch.uint8).numpy()
    flat = array.reshape(-1).view(np.uint8)
    return flat[: len(flat) // 8 * 8].view(np.int64)


def states(rows: int, neurons: int, distribution: str) -> np.ndarray:
    """Packed states (rows, bytes): "all distinct", "zipf", or uniform over "1e5" (or so) states."""
    rng = np.random.default_rng(0)
    distinct = {"all distinct": rows, "zipf": 10_001}.get(distribution)
    table = _random_states(rng, int(float(distribution)) if distinct is None else distinct, neurons)
    if distribution == "all distinct":
        return table
    if distribution == "zipf":
        return table[np.minimum(rng.zipf(1.3, rows), 10_000)]
    return table[rng.integers(0, len(table), rows)]


def _random_states(rng: np.random.Generator, count: int, neurons: int) -> np.ndarray:
    packed = rng.integers(0, 256, (count, (neurons + 7) // 8), dtype=np.uint8)
    if neurons % 8:
        packed[:, -1] &= (1 << neurons % 8) - 1
    return packed


@cache
def trained_layers(epochs: int = 8) -> dict[str, np.ndarray]:
    """The states of LeNet-5's convolutions, trained on the digits, over all 1,797 of them."""
    import torch

    import tensorstate_gpu as ts
    from tensorstate_gpu import demo

    torch.manual_seed(0)
    train, valid = demo.load_digits()
    model = demo.LeNet5()
    demo.fit(model, train, valid, epochs=epochs)
    model.eval()
    with ts.capture(model, "Conv2d") as run, torch.no_grad():
        for images, _ in (train, valid):
            for batch in torch.split(images, 200):
                model(batch)
    return {name.removesuffix("_post_states"): run[name].raw_states for name in run}
