"""The page of the study: its tables are those of the JSON file."""

import json

from benchmarks.studies.neuron_axes.page import (
    PAGE,
    library_rows,
    not_run_rows,
    other_rows,
    written_page,
)
from benchmarks.studies.neuron_axes.study import RESULTS

FOUND = {
    "a/x": {
        "calls": 9,
        "right": {"flow": 2, "guess": 1},
        "wrong": [{"class": "GELU", "origin": "guess"}, {"class": "ReLU", "origin": "flow"}],
        "raised": [{"class": "Rotary"}],
        "undecided": {"mixed, guess": 1, "mixed, flow": 1, "split, flow": 1},
    },
    "a/y": {"error": "ImportError: no | such\nlibrary"},
    "b/z": {"calls": 1, "right": {"layer": 1}, "wrong": [], "raised": [], "undecided": {}},
}


def test_the_page_has_the_tables_of_the_file():
    page = PAGE.read_text()
    found = json.loads(RESULTS.read_text())["models"]
    assert page == written_page(found, page), "python -m benchmarks.studies.neuron_axes --page"


def test_rows_of_the_page():
    _, first, second, all_rows = library_rows(FOUND)
    assert first == ["a", "1", "9", "2", "3", "1", "1", "1", "1", "**1**"]
    assert second == ["b", "1", "1", "1", "0", "0", "0", "0", "0", "**0**"]
    assert all_rows == ["all", "2", "10", "3", "3", "1", "1", "1", "1", "**1**"]
    others = (
        "**wrong in silence**: 1 ReLU; guess, wrong: 1 GELU; guess, right: 1; undecided, mixed: 2; "
        "undecided, split: 1; not captured: 1 Rotary"
    )
    assert other_rows(FOUND)[1:] == [["a/x", "9", "2", others]]
    assert not_run_rows(FOUND)[1:] == [["a/y", "ImportError: no / such"]]
