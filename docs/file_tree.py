"""Writes the tree of files in docs/architecture.md from the first lines of the files.

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
    ("training",),
    ("_capturing",),
    ("store",),
    ("_layers",),
    ("reporting",),
    ("neurons",),
    ("bits",),
    ("_states",),
    ("information", "cuda", "cpu_fallback"),
    ("_arrays",),
    ("_process",),
    ("_arguments.py",),
    ("errors.py", "_html.py", "_listed_names.py", "_version.py", "_warnings.py"),
)
SHOWN = (".py", ".cu", ".h")
AT_THE_TOP = ("bridges", "cpu_fallback")  # at the top of the repository


def place(name: str) -> Path:
    """Return the path of a module or package of tensorstate_gpu."""
    return ROOT / name if name in AT_THE_TOP else ROOT / "tensorstate_gpu" / name


def summary(path: Path) -> str:
    """Return the first line of a module's docstring or of a kernel, without its full stop."""
    text = path.read_text()
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    return text.partition("\n")[0].removeprefix("// ").rstrip(".")


def entries(path: Path, depth: int) -> Iterator[tuple[str, str]]:
    """Yield indented names and summaries: of a module, or of a package and its content."""
    indent = "  " * depth
    if path.is_file():
        yield indent + path.name, summary(path)
        return
    yield f"{indent}{path.name}/", summary(path / "__init__.py")
    for inner in sorted(path.iterdir(), key=lambda inner: (inner.is_dir(), inner.name)):
        is_package = (inner / "__init__.py").exists()
        if is_package or (inner.suffix in SHOWN and inner.stem != "__init__"):
            yield from entries(inner, depth + 1)


def tree() -> str:
    """Return the whole block, including its markers, with an empty line between layers."""
    layers = [[entry for name in layer for entry in entries(place(name), 0)] for layer in LAYERS]
    width = max(len(name) for layer in layers for name, _ in layer) + 2
    text = "\n\n".join(
        "\n".join(f"{name:<{width}}{what}".rstrip() for name, what in layer) for layer in layers
    )
    return f"{BEGIN}```\n{text}\n```\n{END}"


def with_tree(page: str) -> str:
    """Return the page with an updated tree."""
    before, rest = page.split(BEGIN)
    return before + tree() + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(with_tree(PAGE.read_text()))
