"""The neuron axis in published models, against a truth that the library has no part in.

These are the fastest models of benchmarks/studies/neuron_axes, which has many more.
"""

from importlib.util import find_spec
from typing import Any

import pytest

from benchmarks.studies.neuron_axes.findings import findings
from benchmarks.studies.neuron_axes.models import published

MODELS = [
    ("timm", "convnext_zepto_rms"),
    ("timm", "vit_tiny_patch16_224"),
    ("transformers", "vit"),
]


@pytest.mark.filterwarnings("ignore")  # of other libraries
@pytest.mark.parametrize(("library", "name"), MODELS, ids=[name for _, name in MODELS])
def test_no_axis_is_wrong_in_silence(library: str, name: str) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install --group study -c constraints.txt")
    (model,) = published(library, name)
    found: dict[str, Any] = findings(model)
    assert "error" not in found, found
    assert [call for call in found["wrong"] if call["origin"] != "guess"] == []
    assert sum(found["right"].values()) > 10
