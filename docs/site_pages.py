"""The files of the documentation site, for mkdocs: pages lie where the repository has them.

So a link between two pages leads to the same page on the site and in the repository. Programs get
pages of their own, and each public package a page of its docstrings.
"""

import ast
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tensorstate_gpu._arrays.frameworks import CALLBACKS
from tensorstate_gpu._listed_names import listed_names

ROOT = Path(__file__).resolve().parent.parent
LAID_OUT = ROOT / "build/api_source"  # mkdocs.yml names it
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "RELEASE.md", "SECURITY.md")
PACKAGES = ("bits", "errors", "information", "neurons", "reporting", "store", "testing", "training")
# Of links to files that the site does not show: their text stays.
_OUTSIDE = re.compile(
    r"\[([^]\[]+)\]\((?:\.\./)?(?:benchmarks|tests|tensorstate_gpu|bridges)/[^)]*\)"
)


def on_startup(**_: object) -> None:
    """Copy the package as it is installed, so that its docstrings are found by their names."""
    shutil.rmtree(LAID_OUT, ignore_errors=True)
    LAID_OUT.mkdir(parents=True)
    subprocess.run([ROOT / ".ci/lay_out", LAID_OUT], check=True)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by those of the site, under their paths in the repository."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
    for path in paths():
        files.append(File(path, str(ROOT), config.site_dir, use_directory_urls=False))
    for program in sorted(ROOT.glob("examples/*.py")):
        name = f"examples/{program.stem}.md"
        files.append(File.generated(config, name, content=program_page(program)))
    for name in ("tensorstate_gpu", *PACKAGES):
        files.append(File.generated(config, f"docs/api/{name}.md", content=api_page(name)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links to programs lead to their pages."""
    above = "../" if page.file.src_uri.startswith("docs/") else ""
    markdown = markdown.replace(f"]({above}examples/)", f"]({above}docs/gallery.md)")
    markdown = re.sub(r"(\]\((?:\.\./)?examples/\w+)\.py\)", r"\1.md)", markdown)
    return _OUTSIDE.sub(r"\1", markdown)


def paths() -> list[str]:
    """Return the paths of pages, pictures, styles and scripts in the repository."""
    kinds = ("*.md", "**/*.png", "**/*.svg", "*.css", "*.js")
    found = [path for kind in kinds for path in sorted(ROOT.joinpath("docs").glob(kind))]
    return [*TOP, *(path.relative_to(ROOT).as_posix() for path in found)]


def program_page(program: Path) -> str:
    """Return the page that shows a program."""
    return f"---\nhide: [toc]\n---\n# {program.name}\n\n```python\n{program.read_text()}```\n"


def api_page(name: str) -> str:
    """Return the page of what a public package lists, each with its docstring."""
    package = "tensorstate_gpu" if name == "tensorstate_gpu" else f"tensorstate_gpu.{name}"
    folder = ROOT / package.replace(".", "/")
    source = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    tree = ast.parse(source.read_text())
    listed = [each for each in public_names(tree) if each not in (*PACKAGES, "__version__")]
    entries = [api_entry(package, each) for each in listed]
    head = f"::: {package}\n    options:\n      heading_level: 1\n      members: false"
    return "\n\n".join([head, *entries])


def api_entry(package: str, name: str) -> str:
    """Return what mkdocstrings replaces by the docstring of a public name."""
    path = f"{package}.{name}"
    if name not in CALLBACKS:
        return f"::: {path}{members_option(getattr(import_module(package), name))}"
    # Nothing but a function of the module finds it.
    return f"::: tensorstate_gpu.{CALLBACKS[name]}.{name}\n    options:\n      heading: {path}"


def members_option(public: object) -> str:
    """Return the option that shows the members of a class that are for users, if it says which."""
    listed = listed_names(public) if isinstance(public, type) else ()
    return f"\n    options:\n      members: [{', '.join(sorted(listed))}]" if listed else ""


def public_names(tree: ast.Module) -> list[str]:
    """Return the names in ``__all__`` of a module."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise ValueError("the module has no __all__")
