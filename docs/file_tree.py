"""Writes the tree of files in docs/architecture.md from the first lines of docstrings.

``python docs/file_tree.py`` updates the page. The test suite fails if page and files differ.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- tree: written by docs/file_tree.py -->\n", "<!-- end of tree -->\n"

# The layers, from the top down: no module imports from a layer above it. Packages in the same line
# do not import each other. pyproject.toml has the same order, for import-linter.
LAYERS = (
    ("__init__.py", "__main__.py", "testing.py"),
    ("_cli",),
    ("demo.py",),
    ("bridges",),
    ("_capturing",),
    ("store",),
    ("_layers",),
    ("reporting",),
    ("_states",),
    ("information", "cuda", "cpu_fallback"),
    ("_arrays",),
    ("_process",),
    ("_arguments.py",),
    ("errors.py", "_version.py"),
)
AT_THE_TOP = ("bridges", "cpu_fallback")  # at the top of the repository


def place(name: str) -> Path:
    """Return the path of a module or package of tensorstate_gpu."""
    return ROOT / name if name in AT_THE_TOP else ROOT / "tensorstate_gpu" / name


def summary(path: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.partition("\n")[0].rstrip(".")


def entries(path: Path, depth: int) -> Iterator[tuple[str, str]]:
    """Yield indented names and summaries: of a module, or of a package and its content."""
    indent = "  " * depth
    if path.is_file():
        yield indent + path.name, summary(path)
        return
    yield f"{indent}{path.name}/", summary(path / "__init__.py")
    for inner in sorted(path.iterdir(), key=lambda inner: (inner.is_dir(), inner.name)):
        is_package = (inner / "__init__.py").exists()
        if is_package or (inner.suffix == ".py" and inner.stem != "__init__"):
            yield from entries(inner, depth + 1)


def tree() -> str:
    """Return the whole block, including its markers."""
    lines = [entry for layer in LAYERS for name in layer for entry in entries(place(name), 0)]
    width = max(len(name) for name, _ in lines) + 2
    text = "\n".join(f"{name:<{width}}{what}".rstrip() for name, what in lines)
    return f"{BEGIN}```\n{text}\n```\n{END}"


def with_tree(page: str) -> str:
    """Return the page with an updated tree."""
    before, rest = page.split(BEGIN)
    return before + tree() + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(with_tree(PAGE.read_text()))
