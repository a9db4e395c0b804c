"""Packing, unpacking and counting beside the device's own copy, and beside the libraries there.

Inputs are drawn at random and larger than the second-level cache. `moved` are the bytes that the
work has to read and write, which is what a copy is measured by too.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

import tensorstate_gpu as ts
from benchmarks.gpu.bounded import check_time
from benchmarks.gpu.clock import Case, Place
from benchmarks.gpu.results import changed_files, on_record, write
from tensorstate_gpu.neurons import cofiring

# Where time is short, the last cases are missing: what models use most comes first.
DTYPES, LATER_DTYPES = ("bfloat16", "int8"), ("float32", "float16")
# Name -> shape, neuron axis, and whether the memory is channels last.
SHAPES: dict[str, tuple[tuple[int, ...], int, bool]] = {
    "LeNet conv_1, rows of 20": ((28_800_000, 20), -1, False),
    "rows of 64": ((8_000_000, 64), -1, False),
    "transformer MLP, rows of 16384": ((32_768, 16_384), -1, False),
    "ResNet-50 conv2, NCHW": ((256, 256, 56, 56), 1, False),
    "ResNet-50 conv2, channels last": ((256, 256, 56, 56), 1, True),
    "ResNet-50 conv4, NCHW 14 x 14": ((512, 1024, 14, 14), 1, False),
    "ResNet-50 conv5, NCHW 7 x 7": ((1024, 2048, 7, 7), 1, False),
    "LM head, rows of 50257": ((8192, 50_257), -1, False),
    "ViT, all but the first token": ((1024, 197, 1024), -1, False),
    "a third of wider rows": ((131_072, 3072), -1, False),
}
# What is packed of an array, if not all.
PARTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "ViT, all but the first token": lambda x: x[:, 1:],
    "a third of wider rows": lambda x: x[:, : x.shape[1] // 3],
}
COUNTED = [
    (width, distinct) for width in (3, 8, 32, 128) for distinct in (1_000, 100_000, 10_000_000)
]
MOST_COUNTED = 1 << 31  # bytes
RIVAL_ROUNDS = 5
# How the names of cases begin, and how those of the kernels that they measure.
KERNELS = {
    "pack": ("pack_", "firing", "stream", "divide"),
    "count": ("count", "hash_table", "wide_row"),
    "unpack": ("unpack", "divide"),
    "firing rates": ("neurons",),
    "co-firing": ("transpose", "distances"),
}


def stage(words: dict[str, Any], place: Place | None = None) -> bool:
    found: dict[str, Case] = {}
    place = place or Place()
    for name, measure in unknown_first(list(cases(place))):
        try:
            check_time()
            found[name] = measure()
        except Exception as error:  # the other cases are still worth having
            found[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
        place.free()
        if not place.tiny:
            write("speed", words, found)
    return not any("error" in case for case in found.values())


def unknown_first(all_cases: list[tuple[str, Callable[[], Case]]]) -> list[Any]:
    """Order cases: the copy, then what is not on record, or is of kernels that have changed."""
    record = on_record("speed")
    changed = [name.removeprefix("kernels/") for name in changed_files(record)]

    def place_of(name: str) -> int:
        case = record["cases"].get(name, {"error": "it is not on record"})
        kernels = next((of for words, of in KERNELS.items() if name.startswith(words)), ())
        is_old = any(file.startswith(kernels) for file in changed)
        return 0 if name == "copy" else 1 if "error" in case or is_old else 2

    return sorted(all_cases, key=lambda case: place_of(case[0]))


def cases(place: Place) -> Iterator[tuple[str, Callable[[], Case]]]:
    yield "copy", lambda: copying(place)
    yield from packing_cases(place, DTYPES)
    for width, distinct in COUNTED:
        yield (
            f"count {width} bytes, {distinct:,} distinct",
            lambda width=width, distinct=distinct: counting(place, width, distinct),
        )
    for states, neurons in ((8_000_000, 64), (50_000_000, 20)):
        yield f"unpack {states:,} x {neurons}", lambda s=states, n=neurons: unpacking(place, s, n)
    for states, neurons in ((50_000_000, 20), (20_000_000, 64), (2_000_000, 512)):
        yield (
            f"firing rates {states:,} x {neurons}",
            lambda s=states, n=neurons: adding_up(place, s, n),
        )
    pairs = (20_000_000, 20), (8_000_000, 64), (1_000_000, 512), (200_000, 2048)
    for states, neurons in pairs:  # no neuron fires so often that torch's float32 is not exact
        yield f"co-firing {states:,} x {neurons}", lambda s=states, n=neurons: pairing(place, s, n)
    yield "count 32 bytes, 1 M rows of 100,000", lambda: counting_few(place)
    yield from packing_cases(place, LATER_DTYPES)


def packing_cases(
    place: Place, dtypes: tuple[str, ...]
) -> Iterator[tuple[str, Callable[[], Case]]]:
    for name in SHAPES:
        for dtype in dtypes:
            yield (
                f"pack {name}, {dtype}",
                lambda name=name, dtype=dtype: packing(place, name, dtype),
            )


def copying(place: Place) -> Case:
    x = torch.rand(place.size(1 << 30, 1000), device=place.device)
    y = torch.empty_like(x)
    return {"bytes": 2 * x.nbytes, "seconds": place.seconds(lambda: y.copy_(x))}


def packing(place: Place, name: str, dtype: str) -> Case:
    shape, axis, last = SHAPES[name]
    if place.tiny:
        shape = (2, *(min(n, 20) for n in shape[1:]))
    x = torch.randn(shape, device=place.device).to(getattr(torch, dtype))
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    x = PARTS.get(name, lambda x: x)(x)

    def ours() -> torch.Tensor:
        packed: torch.Tensor = ts.compress_states(x, neuron_axis=axis)
        return packed

    packed = ours()
    rivals = {"torch": lambda: packed_by_torch(x, axis)}
    assert torch.equal(packed, rivals["torch"]())
    if place.device == "cuda":
        rivals["cupy.packbits"] = lambda: packed_by_cupy(x, axis)
        assert torch.equal(packed.view(-1), torch.from_dlpack(rivals["cupy.packbits"]()).view(-1))
    return {
        "bytes": x.nbytes,
        "moved": x.nbytes + packed.nbytes,
        **place.both(ours),
        "rivals": {name: place.seconds(call, RIVAL_ROUNDS) for name, call in rivals.items()},
    }


def padded_firing(x: torch.Tensor, axis: int) -> torch.Tensor:
    fires = (x > 0).movedim(axis, -1).reshape(-1, x.shape[axis])
    return torch.nn.functional.pad(fires, (0, -x.shape[axis] % 8))


def packed_by_torch(x: torch.Tensor, axis: int) -> torch.Tensor:
    powers = 2 ** torch.arange(8, device=x.device, dtype=torch.uint8)
    fires = padded_firing(x, axis)
    return (fires.view(len(fires), -1, 8) * powers).sum(-1, dtype=torch.uint8)


def packed_by_cupy(x: torch.Tensor, axis: int) -> Any:
    import cupy

    # packbits knows no rows: they are padded to whole bytes, and packed as one.
    return cupy.packbits(cupy.from_dlpack(padded_firing(x, axis)).ravel(), bitorder="little")


def random_states(place: Place, states: int, neurons: int) -> torch.Tensor:
    shape = (place.size(states, 10), (neurons + 7) // 8)
    return torch.randint(0, 256, shape, device=place.device, dtype=torch.uint8)


def unpacked_by_torch(packed: torch.Tensor) -> torch.Tensor:
    places = torch.arange(8, device=packed.device, dtype=torch.uint8)
    return (packed[:, :, None] >> places & 1).view(len(packed), -1)


def adding_up(place: Place, states: int, neurons: int) -> Case:
    packed = random_states(place, states, neurons)

    def by_torch() -> torch.Tensor:
        return unpacked_by_torch(packed).sum(0)

    assert torch.equal(ts.popcount(packed, axis=0), by_torch())
    return {
        "rows": len(packed),
        "moved": packed.nbytes,
        **place.both(lambda: ts.popcount(packed, axis=0)),
        "rivals": {"torch, unpack and sum": place.seconds(by_torch, RIVAL_ROUNDS)},
    }


def pairing(place: Place, states: int, neurons: int) -> Case:
    """With the result's copy to the host, for both."""
    packed = random_states(place, states, neurons)

    def by_torch() -> torch.Tensor:
        firing = unpacked_by_torch(packed).float()
        return (firing.T @ firing).cpu()

    assert (by_torch().numpy() == cofiring(packed)).all()
    return {
        "rows": len(packed),
        "moved": packed.nbytes,
        "seconds": place.seconds(lambda: cofiring(packed)),
        "rivals": {"torch, unpack and matmul": place.seconds(by_torch, RIVAL_ROUNDS)},
    }


def unpacking(place: Place, states: int, neurons: int) -> Case:
    packed = random_states(place, states, neurons)
    states = len(packed)

    def by_torch() -> torch.Tensor:
        return unpacked_by_torch(packed)[:, :neurons].bool()

    assert torch.equal(ts.decompress_states(packed, neurons), by_torch())
    return {
        "bytes": states * neurons,
        "moved": states * neurons + packed.nbytes,
        "seconds": place.seconds(lambda: ts.decompress_states(packed, neurons)),
        "rivals": {"torch": place.seconds(by_torch, RIVAL_ROUNDS)},
    }


def drawn(place: Place, rows: int, width: int, distinct: int) -> torch.Tensor:
    pool = torch.randint(0, 256, (distinct, width), device=place.device, dtype=torch.uint8)
    return pool[torch.randint(0, distinct, (rows,), device=place.device)]


def counting(place: Place, width: int, distinct: int) -> Case:
    """Batch after batch in one table, as capture counts; then one call with its result."""
    rows = drawn(place, place.size(MOST_COUNTED // width, 2000), width, place.size(distinct, 50))
    point = ts.CapturePoint("layer", keep="counts")
    batch = as_device_rows(rows)
    found: Case = {"rows": len(rows), "moved": rows.nbytes}
    found |= place.both(lambda: point.intake.record(batch, 8 * width, 1, len(rows)), 10)
    found["distinct"] = len(point.histogram().counts)
    point.reset_states()
    place.free()
    part = rows[: min(len(rows), 1 << 25)]
    counts = ts.count_states(part)
    assert counts.total == len(part)
    found["with result"] = {
        "rows": len(part),
        "seconds": place.seconds(lambda: ts.count_states(part), 5),
    }
    if width == 8:
        rivals = rivals_for_words(place, part.view(torch.int64)[:, 0])
        assert len(torch.unique(part.view(torch.int64)[:, 0])) == len(counts)
        times = {name: place.seconds(call, RIVAL_ROUNDS) for name, call in rivals.items()}
        found["with result"]["rivals"] = times
    return found


def as_device_rows(rows: torch.Tensor) -> Any:
    """As the hooks hand them to a capture point: CuPy's array over the same memory."""
    if not rows.is_cuda:
        return rows.numpy()
    import cupy

    return cupy.from_dlpack(rows)


def rivals_for_words(place: Place, keys: torch.Tensor) -> dict[str, Callable[[], Any]]:
    rivals: dict[str, Callable[[], Any]] = {
        "torch.unique": lambda: torch.unique(keys, return_counts=True),
        "sort, run lengths": lambda: torch.unique_consecutive(
            keys.sort().values, return_counts=True
        ),
    }
    if place.device == "cuda":
        rivals["cupy.unique"] = lambda: _unique_by_cupy(keys)
    return rivals


def _unique_by_cupy(keys: torch.Tensor) -> Any:
    import cupy

    return cupy.unique(cupy.from_dlpack(keys), return_counts=True)


def counting_few(place: Place) -> Case:
    """Few enough for what sorts rows by comparing them, or on the host as the reference does."""
    rows = drawn(place, place.size(1 << 20, 2000), 32, place.size(100_000, 50))
    unique = lambda: torch.unique(rows, dim=0, return_counts=True)  # noqa: E731
    assert len(unique()[0]) == len(ts.count_states(rows))
    rivals: dict[str, Callable[[], Any]] = {"torch.unique(dim=0)": unique}
    rivals["copied to the host, counted there"] = lambda: ts.count_states(rows.cpu())
    return {
        "rows": len(rows),
        "moved": rows.nbytes,
        "seconds": place.seconds(lambda: ts.count_states(rows)),
        "rivals": {name: place.seconds(call, RIVAL_ROUNDS) for name, call in rivals.items()},
    }
