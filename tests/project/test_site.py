"""The documentation site: all pages are in it, look as they do in the repository, and run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import markdown
import pytest
from markdown_it import MarkdownIt
from mkdocs.config import load_config

from docs import gallery, site_pages

ROOT = Path(__file__).parents[2]
PAGES = [path for path in site_pages.paths() if path.endswith(".md")]
# What a page may show. "py" are lines of a program that needs a GPU: nothing here can run them.
LANGUAGES = {"", "python", "bash", "py"}
FOR_A_GPU = [("docs/pytorch.md", "py")]


@pytest.fixture(scope="module")
def config():
    return load_config(str(ROOT / "mkdocs.yml"))


def test_the_navigation_lists_every_page(config):
    api = [f"docs/api/{name}.md" for name in ("tensorstate_gpu", *site_pages.PACKAGES)]
    assert sorted(listed(config.nav)) == sorted([*PAGES, *api])


def listed(entry):
    if isinstance(entry, str):
        return [entry]
    values = entry.values() if isinstance(entry, dict) else entry
    return [path for value in values for path in listed(value)]


def test_each_program_of_a_page_is_run():
    tests = [path.read_text() for path in ROOT.glob("tests/**/*.py")]
    run = {page for text in tests for page in re.findall(r'programs_of\("([\w./]+)"\)', text)}
    fences = [
        (page, language)
        for page in PAGES
        for language in re.findall(r"^ *(?:```|~~~)(.*)$", ROOT.joinpath(page).read_text(), re.M)
    ]
    assert {language for _, language in fences} <= LANGUAGES
    assert {page for page, language in fences if language == "python"} == run
    assert [fence for fence in fences if fence[1] == "py"] == FOR_A_GPU


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_the_same_parts_on_the_site_and_in_the_repository(page, config):
    """Python-Markdown makes other lists than GitHub of lines that are indented by two spaces."""
    text = ROOT.joinpath(page).read_text()
    on_github = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    extensions = ["attr_list", "tables", "pymdownx.superfences"]
    assert set(extensions) < set(config.markdown_extensions)
    assert parts(markdown.markdown(text, extensions=extensions)) == parts(on_github)


def parts(html):
    names = ("h1", "h2", "h3", "ul", "ol", "li", "table", "tr", "td", "pre", "code", "em", "strong")
    return {name: len(re.findall(f"<{name}[ >]", html)) for name in names}


@pytest.mark.long
def test_the_site_is_built_without_a_warning_and_needs_no_network(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    offline = {"http_proxy": "http://0.0.0.0:1", "https_proxy": "http://0.0.0.0:1"}
    done = subprocess.run(
        [*command, "--site-dir", tmp_path],
        cwd=ROOT,
        env=os.environ | offline | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pages = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*.html")}
    texts = {name: path.read_text() for name, path in pages.items()}
    for name, text in texts.items():
        loaded = re.findall(r"""<(?:script|img|iframe|link)\b[^>]*?(?:src|href)="(.*?)\"""", text)
        assert not [address for address in loaded if re.match("(https?:)?//", address)], name
        assert "&gt;&gt;&gt;" not in "".join(
            re.findall(r"<blockquote>.*?</blockquote>", text, re.S)
        )
    for name in gallery.NAMES:
        shown = gallery.picture(name, gallery.PICTURES).relative_to(ROOT).as_posix()
        assert (tmp_path / shown).exists()
        assert shown.removeprefix("docs/") in texts["docs/gallery.html"]
        assert f'href="../examples/{name}.html"' in texts["docs/gallery.html"]
    for name in ("tensorstate_gpu.capture", "tensorstate_gpu.Run.report"):
        assert f'id="{name}"' in texts["docs/api/tensorstate_gpu.html"]
