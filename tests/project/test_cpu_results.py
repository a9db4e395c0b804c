"""The page on performance has what each processor measured, and says so where none did."""

import copy

import pytest

from benchmarks.harness import processors, tables
from benchmarks.harness.ratios import spread
from benchmarks.harness.targets import TARGETS

KEPT = processors.all_results()


def case(ours, **others):
    return {"commit": "abc", "amount": 1.0, "unit": "GB/s", "seconds": {"ours": ours, **others}}


def results(processor, cases, code="some, 256 bits"):
    return {"machine": {"processor": processor, "code for": code}, "cases": cases}


def test_the_page_has_the_figures_of_the_committed_results():
    page = tables.PAGE.read_text()
    assert tables.write_page(KEPT, page) == page, "run python -m benchmarks.harness.tables"


def test_each_processor_has_a_column_and_each_maker_without_one_says_so():
    amd = results("AMD One", {"pack[1 x 64]": case([1.0, 1.0], **{"rival: NumPy": [2.0, 2.0]})})
    other = results("AMD Two", {"pack[1 x 64]": case([1.0, 1.0], **{"rival: NumPy": [0.5, 0.5]})})
    heading, _, *rows = tables.targets_table([amd, other]).splitlines()
    assert "| AMD One (some, 256 bits), at abc | AMD Two (some, 256 bits), at abc | Intel |" in (
        heading
    )
    (row,) = (row for row in rows if row.startswith("| packing: times the best rival"))
    assert "| 2.00, met; worst 2.00 (2.00 to 2.00), 1 x 64 |" in row
    assert "| 0.50, **0 of 1 meet it**; worst 0.50 (0.50 to 0.50), 1 x 64 | not run |" in row
    assert all(row.count("not run") == 3 for row in rows if "packing: times" not in row)


def test_a_table_has_columns_of_each_processor_and_of_what_only_one_ran():
    both = [
        results("AMD", {"pack[a]": case([1.0]), "pack[b]": case([1.0])}),
        results("Intel", {"pack[b]": case([2.0])}, code="other, 512 bits"),
    ]
    heading, _, *rows = tables.table("pack", both).splitlines()
    assert "some, 256 bits: rate" in heading
    assert "other, 512 bits: rate" in heading
    assert rows == [
        "| a | 1 GB/s | - | - | - | - | - |",
        "| b | 1 GB/s | - | - | 0.5 GB/s | - | - |",
    ]


def test_cases_that_were_measured_again_name_their_commit():
    mixed = results("AMD", {"pack[a]": case([1.0]), "pack[b]": case([1.0]) | {"commit": "def"}})
    assert processors.heading(mixed).endswith("at abc and def")


def test_the_middle_half_of_rounds():
    assert spread([5.0]) == (5.0, 5.0, 5.0)
    assert spread([1.0, 2.0, 3.0, 4.0, 100.0]) == (3.0, 2.0, 4.0)


def test_every_aim_is_measured_by_the_command_beside_it():
    """Its cases are those of the test that the command picks."""
    for target in TARGETS:
        for one in KEPT:
            measured = [n for n, each in one["cases"].items() if target.measure(n, each)]
            assert measured
            assert all(f"test_{name}".startswith(target.tests) for name in measured)


def test_a_part_that_is_measured_again_leaves_the_rest_in_the_file_of_its_processor(tmp_path):
    for name in ("pack[a]", "pack[b]"):
        measured = {name: {"amount": 1 / 3}}
        file = processors.keep_results(tmp_path, "znver4, 512 bits", {}, measured)
    assert file.name == "cpu-znver4-512-bits.json"
    (kept,) = processors.all_results(tmp_path)
    assert kept["cases"] == {"pack[a]": {"amount": 0.3333}, "pack[b]": {"amount": 0.3333}}


def test_cases_that_ran_elsewhere_keep_the_words_of_their_machine(tmp_path):
    old, new = {"processor": "AMD", "numpy": "2.4"}, {"processor": "AMD", "numpy": "2.5"}
    for names, machine in (("ab", old), ("b", new), ("c", new), ("d", old)):
        measured = {f"pack[{name}]": {"amount": 1} for name in names}
        processors.keep_results(tmp_path, "znver4", machine, measured)
    (kept,) = processors.all_results(tmp_path)
    assert kept["machine"] == old
    assert {name[5]: case.get("machine") for name, case in kept["cases"].items()} == {
        "a": None,
        "b": new,
        "c": new,
        "d": None,
    }
    assert processors.machines_of(kept) == [old, new]
    assert tables.machines([kept]) == "- processor AMD, numpy 2.4\n- processor AMD, numpy 2.5"


@pytest.mark.parametrize("field", ["commit", "seconds"])
def test_a_changed_result_is_noticed_on_the_page(field):
    changed = copy.deepcopy(KEPT)
    one = next(iter(changed[0]["cases"].values()))
    if field == "commit":
        one["commit"] = "another"
    else:
        one["seconds"]["states"] = [1.0 for _ in one["seconds"]["states"]]
    page = tables.PAGE.read_text()
    assert tables.write_page(changed, page) != page
