"""Doctests of public classes, which name the public package as their module.

doctest looks only at classes whose ``__module__`` is the module that it searches, so it would pass
over ``CapturePoint``, defined in ``tensorstate_gpu._capturing.capture_point``, without a word.
"""

import doctest
import inspect
import types


def defined_in(kind: type, module: types.ModuleType) -> bool:
    """Whether a class is defined in a module, whatever its ``__module__`` says."""
    functions = (_function(member) for member in vars(kind).values())
    return any(getattr(found, "__module__", None) == module.__name__ for found in functions)


def _function(member):
    if isinstance(member, property):
        return member.fget
    return member.__func__ if isinstance(member, (classmethod, staticmethod)) else member


def look_into_public_classes():
    """Let doctest find the examples of public classes where they are defined."""
    usual = doctest.DocTestFinder._from_module

    def from_module(self, module, object):
        if inspect.isclass(object) and module is not None and defined_in(object, module):
            return True
        return usual(self, module, object)

    doctest.DocTestFinder._from_module = from_module
