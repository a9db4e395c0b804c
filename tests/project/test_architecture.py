"""The page on the architecture shows the files that there are, in the order of the contract."""

import tomllib

from docs import file_tree

CONTRACTS = tomllib.loads((file_tree.ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
SOURCES = (".py", ".cu", ".h")


def test_the_tree_is_that_of_the_files():
    page = file_tree.PAGE.read_text()
    assert page == file_tree.with_tree(page), "run python docs/file_tree.py"


def test_layers_stand_in_the_order_of_the_contract():
    (contract,) = (one for one in CONTRACTS["contracts"] if one["type"] == "layers")
    below_the_face = file_tree.LAYERS[1:]
    shown = [" | ".join(name.removesuffix(".py") for name in layer) for layer in below_the_face]
    assert shown == contract["layers"]


def test_every_module_says_what_it_is():
    lines = file_tree.tree().splitlines()
    silent = [line for line in lines if len(line.split()) == 1 and not line.startswith("```")]
    assert not silent


def test_every_module_is_in_the_tree():
    shown = file_tree.tree()
    for root in ("tensorstate_gpu", *file_tree.AT_THE_TOP):
        for path in (file_tree.ROOT / root).rglob("*.*"):
            hidden = path.suffix not in SOURCES or path.name == "__init__.py"
            assert hidden or f"{path.name} " in shown
