"""What holds for all tests of reports."""

import sys

import pytest


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")
