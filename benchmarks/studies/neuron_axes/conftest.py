"""Importing warm.py is what it does: pytest is not to look for doctests there."""

collect_ignore = ["warm.py"]
