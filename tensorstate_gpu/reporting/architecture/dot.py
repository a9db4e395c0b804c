"""A graph in the language of Graphviz, and its program ``dot``, which draws it."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Sequence

from tensorstate_gpu._warnings import warn_user


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """How a node looks. ``lines``: its text; ``border``: solid, dashed, or "" for none."""

    lines: tuple[str, ...]
    fill: str = "#ffffff"
    text: str = "#000000"
    border: str = "solid"


def dot_source(
    boxes: Sequence[Box], edges: Sequence[tuple[int, int]], caption: Sequence[str]
) -> str:
    """Return a graph from the top down, with a caption below it, as a text for ``dot``."""
    parts = [
        "digraph {",
        'graph [fontname="sans-serif", fontsize=11, labelloc=b, ranksep=0.3, charset="UTF-8"]',
        'node [fontname="sans-serif", fontsize=11, shape=box, margin="0.12,0.06"]',
        'edge [color="#767676", arrowsize=0.6]',
        f"label={quoted(caption)}",
    ]
    for place, box in enumerate(boxes):
        style = f"filled,{box.border}" if box.border else "filled"
        edge = "#404040" if box.border else "#ffffff"
        parts.append(
            f'n{place} [label={quoted(box.lines)}, style="{style}", fillcolor="{box.fill}", '
            f'fontcolor="{box.text}", color="{edge}"]'
        )
    parts += [f"n{start} -> n{end}" for start, end in edges]
    return "\n".join([*parts, "}"]) + "\n"


def quoted(lines: Sequence[str]) -> str:
    r"""Return lines as one label. A name is shown as it is: nothing in it is an escape.

    >>> print(quoted(["<b>", 'a\\N"', "two\nlines"]))
    "<b>\na\\N\"\ntwo lines"
    """
    return '"' + r"\n".join(_escaped(line) for line in lines) + '"'


def _escaped(line: str) -> str:
    printable = "".join(char if char.isprintable() else " " for char in line)
    # Graphviz reads &amp; and its like in labels.
    return printable.replace("&", "&amp;").replace("\\", "\\\\").replace('"', r"\"")


def drawn(source: str, file_format: str, dpi: int) -> bytes:
    """Return a picture of a graph: "svg", "png" or "pdf".

    Raises FileNotFoundError if Graphviz is not installed, RuntimeError if it fails. Warns if the
    picture has a lower resolution.
    """
    program = shutil.which("dot")
    if program is None:
        raise FileNotFoundError(
            "drawing a graph needs Graphviz, whose program dot is not on the PATH: "
            "apt install graphviz, brew install graphviz, or https://graphviz.org/download"
        )
    command = [program, f"-T{file_format}", *([f"-Gdpi={dpi}"] if file_format == "png" else [])]
    done = subprocess.run(command, input=source.encode(), capture_output=True)
    told = done.stderr.decode(errors="replace").strip()
    if done.returncode:
        raise RuntimeError(f"Graphviz failed: {told}")
    if "too large" in told:  # it has less than the resolution that was asked for
        warn_user(f"{dpi} dpi are too many for this picture: {told}; an .svg has no limit")
    return done.stdout
