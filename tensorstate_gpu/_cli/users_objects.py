"""Objects of the user's own modules: imported by name, and called where they are functions."""

import contextlib
import importlib.util
import operator
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType

from tensorstate_gpu._arrays.frameworks import bridge_of
from tensorstate_gpu.errors import TensorStateError


def load_model(name: str) -> object:
    """Return a model by its name, or what a function or class of that name returns.

    Raises TypeError if that is no model of PyTorch or Keras, and what load() raises.
    """
    found = load(name)
    # PyTorch's and Keras' models can be called, too.
    if callable(found) and (isinstance(found, type) or not _is_model(found)):
        found = _called(found, name)
    try:
        bridge_of(found)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    return found


def load_data(name: str) -> object:
    """Return an object by its name, or what a function of that name returns; raises as load()."""
    found = load(name)
    return _called(found, name) if callable(found) else found


def load(name: str) -> object:
    """Return the object that ``package.module:name`` names; the current folder comes first.

    Raises ValueError if there is no such object, or if importing its module fails.
    """
    module, colon, attribute = name.partition(":")
    is_path = "/" in module or os.sep in module
    if not (colon and attribute and all(module.split("."))) or is_path:
        raise ValueError(f"{name!r} is no name of the form package.module:object")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    imported = _imported(module)
    try:
        found: object = operator.attrgetter(attribute)(imported)
    except AttributeError:
        public = [each for each in vars(imported) if not each.startswith("_")]
        listed = ", ".join(public) or "nothing"
        raise ValueError(f"{module} has no {attribute!r}; it has {listed}") from None
    return found


def _is_ours(error: Exception) -> bool:
    return isinstance(error, TensorStateError)  # which says what to do


@contextlib.contextmanager
def users_code(what: str, is_ours: Callable[[Exception], bool] = _is_ours) -> Iterator[None]:
    """Print the traceback of an exception in the user's code, and raise it as a ValueError.

    ``is_ours``: returns whether an exception comes from elsewhere, and is raised as it is.
    """
    try:
        yield
    except Exception as error:
        if is_ours(error):
            raise
        traceback.print_exc()
        raise ValueError(f"{what}: {type(error).__name__}: {error}") from error
    except SystemExit as error:  # else the command would end as if all was done
        traceback.print_exc()
        raise ValueError(
            f"{what}: it ends the program by sys.exit({error.code!r}). What a module does as a "
            'script, such as reading arguments, belongs below `if __name__ == "__main__":`'
        ) from error


@contextlib.contextmanager
def without_arguments() -> Iterator[None]:
    """Show the user's code a command without arguments.

    A script that reads its own, as by parse_known_args(), would take those of this command for
    them: both may have a ``--limit``.
    """
    before = sys.argv
    sys.argv = before[:1]
    try:
        yield
    finally:
        sys.argv = before


def _imported(name: str) -> ModuleType:
    with users_code(f"importing {name.rpartition('.')[0]} failed"):
        found = _is_there(name)
    if not found:
        hint = (
            f": {name.removesuffix('.py')!r} is the name of {name}" if name.endswith(".py") else ""
        )
        where = f"neither in {os.getcwd()} nor installed"
        raise ValueError(f"there is no module {name!r}, {where}{hint}")
    with users_code(f"importing {name} failed"):
        return import_module(name)


def _is_there(name: str) -> bool:
    """Return whether there is a module; this imports its package."""
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return False  # its package is missing, or is a module
        raise


def _called(function: object, name: str) -> object:
    assert callable(function)
    with users_code(f"{name}() failed"):
        returned: object = function()
    return returned


def _is_model(value: object) -> bool:
    try:
        bridge_of(value)
    except TypeError:
        return False
    return True
