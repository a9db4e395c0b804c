"""The reference values of reference_values.json, whose first lines describe them."""

import json
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_suffix(".json")
VALUES = json.loads(PATH.read_text())
SAMPLES = {sample["name"]: sample for sample in VALUES["samples"]}
TABLES = {table["name"]: table for table in VALUES["tables"]}


def counts_of(sample):
    """The count of each state."""
    times, states = zip(*sample["counts_of_counts"], strict=True)
    return np.repeat(times, states)
