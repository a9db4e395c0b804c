"""Reads what a graph in the language of Graphviz says of its nodes and edges."""

import os
import re
import shutil

import pytest

with_graphviz = pytest.mark.skipif(
    # Where .ci/run has installed it, these tests fail without it.
    shutil.which("dot") is None and "TENSORSTATE_TEST_PROGRAMS" not in os.environ,
    reason="Graphviz is not installed: apt install graphviz",
)


def labels_of(source):
    """The lines of the text of each node, in order."""
    found = re.findall(r'^n\d+ \[label="(.*?)(?<!\\)", style', source, re.MULTILINE)
    return [tuple(label.split(r"\n")) for label in found]


def looks_of(source):
    """The attributes of each node, but for its text."""
    nodes = re.findall(r'^n\d+ \[.*", style=(.*)\]$', source, re.MULTILINE)
    return [dict(re.findall(r'(\w+)="(.*?)"', node)) for node in nodes]


def edges_of(source):
    """Pairs of places of nodes."""
    found = re.findall(r"^n(\d+) -> n(\d+)$", source, re.MULTILINE)
    return sorted((int(start), int(end)) for start, end in found)
