"""What the CUDA backend does on a GPU, beside the device's own copy and the libraries there.

``make gpu`` runs the tests on the device, then this. Times are medians of CUDA events; inputs are
drawn at random, and larger than the second-level cache. Results go to benchmarks/results/gpu.json.
"""

import json
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorstate_gpu as ts

RESULTS = Path(__file__).parent / "results/gpu.json"
ROUNDS = 15
DTYPES = ("float32", "bfloat16", "float16")
# Name -> shape, neuron axis, and whether the memory is channels last.
SHAPES: dict[str, tuple[tuple[int, ...], int, bool]] = {
    "LeNet conv_1, rows of 20": ((28_800_000, 20), -1, False),
    "rows of 64": ((8_000_000, 64), -1, False),
    "MLP, rows of 16384": ((32_768, 16_384), -1, False),
    "ResNet-50 conv2, NCHW": ((256, 256, 56, 56), 1, False),
    "ResNet-50 conv2, channels last": ((256, 256, 56, 56), 1, True),
    "ResNet-50 conv5, NCHW 7 x 7": ((1024, 2048, 7, 7), 1, False),
}
COUNTED = [(width, distinct) for width in (3, 8, 32) for distinct in (1_000, 100_000, 10_000_000)]
ROWS = 1 << 25


def seconds(torch: Any, call: Callable[[], object]) -> list[float]:
    """Device time of one call, least, median and most of several."""
    for _ in range(3):
        call()
    times = []
    for _ in range(ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return [min(times), statistics.median(times), max(times)]


def copying(torch: Any) -> dict[str, Any]:
    x = torch.rand(1 << 30, device="cuda")
    y = torch.empty_like(x)
    return {"bytes": 2 * x.nbytes, "seconds": seconds(torch, lambda: y.copy_(x))}


def packing(
    torch: Any, shape: tuple[int, ...], axis: int, last: bool, dtype: str
) -> dict[str, Any]:
    x = torch.randn(shape, device="cuda", dtype=torch.float16).to(getattr(torch, dtype))
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    powers = 2 ** torch.arange(8, device="cuda", dtype=torch.uint8)

    def in_torch() -> Any:
        fires = (x > 0).movedim(axis, -1).reshape(-1, shape[axis])
        fires = torch.nn.functional.pad(fires, (0, -shape[axis] % 8))
        return (fires.view(len(fires), -1, 8) * powers).sum(-1, dtype=torch.uint8)

    def ours() -> Any:
        return ts.compress_states(x, neuron_axis=axis)

    assert torch.equal(ours(), in_torch())
    return {
        "bytes": x.nbytes,
        "seconds": seconds(torch, ours),
        "rivals": {"torch": seconds(torch, in_torch)},
    }


def counting(torch: Any, width: int, distinct: int) -> dict[str, Any]:
    pool = torch.randint(0, 256, (distinct, width), device="cuda", dtype=torch.uint8)
    rows = pool[torch.randint(0, distinct, (ROWS,), device="cuda")]
    counts = ts.count_states(rows)
    assert counts.total == ROWS
    result = {"rows": ROWS, "seconds": seconds(torch, lambda: ts.count_states(rows))}
    if width == 8:
        keys = rows.view(torch.int64)[:, 0]
        assert len(torch.unique(keys)) == len(counts)
        unique = seconds(torch, lambda: torch.unique(keys, return_counts=True))
        result["rivals"] = {"torch.unique": unique}
    return result


def unpacking(torch: Any, states: int, neurons: int) -> dict[str, Any]:
    shape = (states, (neurons + 7) // 8)
    packed = torch.randint(0, 256, shape, device="cuda", dtype=torch.uint8)
    return {
        "bytes": states * neurons,
        "seconds": seconds(torch, lambda: ts.decompress_states(packed, neurons)),
    }


def measure(torch: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"copy": copying(torch)}
    for name, (shape, axis, last) in SHAPES.items():
        for dtype in DTYPES:
            found[f"pack {name}, {dtype}"] = packing(torch, shape, axis, last, dtype)
            torch.cuda.empty_cache()
    for width, distinct in COUNTED:
        found[f"count {width} bytes, {distinct:,} distinct"] = counting(torch, width, distinct)
    for states, neurons in ((8_000_000, 64), (50_000_000, 20)):
        found[f"unpack {states:,} x {neurons}"] = unpacking(torch, states, neurons)
    return found


def machine(torch: Any) -> dict[str, Any]:
    import cupy

    gpu = torch.cuda.get_device_properties(0)
    words = {"gpu": gpu.name, "multiprocessors": gpu.multi_processor_count}
    return {
        **words,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cupy": cupy.__version__,
    }


def main() -> None:
    import torch

    if not torch.cuda.is_available():
        sys.exit("no CUDA GPU here: nothing was measured")
    results = {"machine": machine(torch), "cases": measure(torch)}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    copy = results["cases"]["copy"]
    print(f"copy: {copy['bytes'] / copy['seconds'][1] / 1e9:.0f} GB/s read and written")
    for name, case in results["cases"].items():
        unit, amount = ("GB", case["bytes"]) if "bytes" in case else ("G rows", case["rows"])
        rivals = {
            rival: f"{times[1] / case['seconds'][1]:.1f} x"
            for rival, times in case.get("rivals", {}).items()
        }
        print(f"{name:<50} {amount / case['seconds'][1] / 1e9:10.1f} {unit}/s {rivals or ''}")


if __name__ == "__main__":
    main()
