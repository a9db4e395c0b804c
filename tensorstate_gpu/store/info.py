"""Summary of a store: its commit record, and the sizes of its files."""

from typing import Any

from tensorstate_gpu.store.commit_record import LayerRecord, Record
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.kept_runs import array_key
from tensorstate_gpu.store.keys import layer_keys, run_key
from tensorstate_gpu.store.verification import CommittedArray, committed_arrays, committed_keys


def describe(files: Files, record: Record) -> dict[str, Any]:
    """Return what Store.info() returns. Lists the files once, and reads none of them."""
    sizes = file_sizes(files)
    arrays = {array.key: array for array in committed_arrays(files, record)}
    return {
        "path": str(files),
        "format": record.format,
        "version": record.version,
        "started": record.started,
        "committed": record.committed,
        "commits": record.commits,
        "closed": record.closed,
        **_all_files(files, record, sizes),
        "layers": [_describe(*layer, arrays, sizes) for layer in record.layers.items()],
    }


def _all_files(files: Files, record: Record, sizes: dict[str, int] | None) -> dict[str, Any]:
    if sizes is None:
        return {"bytes": None, "not_committed": None}
    listed = set(committed_keys(files, record))
    others = [size for key, size in sizes.items() if key not in listed]
    return {
        "bytes": sum(sizes.values()) - sum(others),
        "not_committed": {"files": len(others), "bytes": sum(others)},
    }


def _describe(
    name: str,
    layer: LayerRecord | None,
    arrays: dict[str, CommittedArray],
    sizes: dict[str, int] | None,
) -> dict[str, Any]:
    layer_arrays = [arrays[key] for key in _array_keys(name, layer) if key in arrays]
    capture = {} if layer is None else dict(layer.capture)
    keys = [key for array in layer_arrays for key in array.file_keys()]
    return {
        "name": name,
        "keep": None if layer is None else layer.keep,
        "neurons": None if layer is None else layer.neurons,
        "axis": capture.pop("neuron_axis", None),
        **capture,
        "rows": 0 if layer is None else layer.rows,
        "instances": 0 if layer is None else layer.instances,
        "states_per_instance": None if layer is None else layer.states_per_instance,
        "unassigned_rows": 0 if layer is None else layer.unassigned,
        **({"labels": 0, "units": 0} if layer is None else layer.noted),
        **_counts_info(layer),
        "chunks": sum(len(array.committed.checksums) for array in layer_arrays),
        "bytes": None if sizes is None else sum(sizes.get(key, 0) for key in keys),
    }


def _counts_info(layer: LayerRecord | None) -> dict[str, int]:
    """Return in how many sorted runs counts are, and how many distinct states there are at most.

    A state is in several runs, or in one of them with several labels and groups.
    """
    if layer is None or layer.counts is None:
        return {}
    rows = [run.arrays["states"].rows for run in layer.counts.runs]
    return {"runs": len(rows), "distinct_at_most": min(sum(rows), 2**layer.neurons)}


def _array_keys(name: str, layer: LayerRecord | None) -> list[str]:
    runs = () if layer is None or layer.counts is None else layer.counts.runs
    of_runs = (array_key(run_key(name, run.number), each) for run in runs for each in run.arrays)
    return [*layer_keys(name), *of_runs]


def file_sizes(files: Files) -> dict[str, int] | None:
    """Return the size of each file, in bytes; None if files cannot be listed."""
    try:
        return files.list_sizes()
    except OSError:
        return None
