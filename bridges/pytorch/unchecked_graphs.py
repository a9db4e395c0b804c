"""PyTorch: finds compiled graphs that do not check the classes of their modules, nor so our hooks.

Such are made with ``torch.compile(..., options={"guard_filter_fn": ...})``, for example with
``torch.compiler.skip_guard_on_all_nn_modules_unsafe``. One from before a capture would run in it,
and capture nothing.
"""

import re
import sys
import weakref
from collections.abc import Iterator
from typing import Any

_CLASS_CHECK = re.compile(r"___check_type_id\(.*?, \d+\), type=<class '(.*?)'>")


def may_be_in_unchecked_graph(kind: type) -> bool:
    """Return whether a graph may have modules of a class inside, and does not check their class.

    False in versions of torch that do not show their graphs.
    """
    imported = f"__import_{kind.__module__.replace('.', '_dot_')}"
    for entry in _graphs():
        names, checked = entry.code.co_names, _checked_classes(entry)
        if imported in names and f"{kind.__module__}.{kind.__qualname__}" not in checked:
            return True
        if "_parameters" in names and not checked:
            return True
    return False


def _graphs() -> Iterator[Any]:
    """Yield the cache entries of torch.compile."""
    if "torch._dynamo.convert_frame" not in sys.modules:
        return
    try:
        from torch._C._dynamo.eval_frame import _debug_get_cache_entry_list
        from torch._dynamo.convert_frame import input_codes
    except ImportError:
        return
    for code in [reference() for reference in input_codes.seen]:
        if code is not None:
            yield from _debug_get_cache_entry_list(code)


def _checked_classes(entry: Any) -> frozenset[str]:
    """Return the names of the classes, other than built-in ones, that a graph's guards check."""
    code, key = entry.code, id(entry.code)
    if key not in _checked:
        _checked[key] = frozenset(_classes_in(entry.guard_manager.root))
        weakref.finalize(code, _checked.pop, key)
    return _checked[key]


def _classes_in(guards: Any) -> Iterator[str]:
    for guard in guards.get_leaf_guards():
        for name in _CLASS_CHECK.findall("".join(guard.verbose_code_parts())):
            if "." in name and not name.startswith("collections."):
                yield name
    for child in guards.get_child_managers():
        yield from _classes_in(child)
    if hasattr(guards, "get_key_value_managers"):  # of a dict that the model iterates over
        for pair in guards.get_key_value_managers().values():
            for child in filter(None, pair):
                yield from _classes_in(child)


# By the identity of a graph's code, as long as there is that: torch.compile makes code with
# constants that have no hash, so it has none, either.
_checked: dict[int, frozenset[str]] = {}
