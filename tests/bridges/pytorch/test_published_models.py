"""The neuron axis in published models, against a truth that the library has no part in.

These are fast ones of different kinds; benchmarks/studies/neuron_axes has many more.
"""

from importlib.util import find_spec
from typing import Any

import pytest

from benchmarks.studies.neuron_axes.findings import findings
from benchmarks.studies.neuron_axes.models import published

MODELS = [
    ("timm", "convnext_zepto_rms"),
    ("timm", "vit_tiny_patch16_224"),
    ("transformers", "bert"),
    ("transformers", "convnext"),
    ("transformers", "detr"),
    ("transformers", "gpt2"),
    ("transformers", "llama"),
    ("transformers", "qwen3"),
    ("transformers", "segformer"),
    ("transformers", "swin"),
    ("transformers", "t5"),
    ("transformers", "wav2vec2"),
]
# The rules by type and number of axes take another axis for some of their layers.
STILL_WRONG = {"convnext", "qwen3", "wav2vec2"}


def _parameter(library: str, name: str) -> Any:
    marks = [pytest.mark.xfail(reason="no rule finds their axis")] if name in STILL_WRONG else []
    return pytest.param(library, name, id=name, marks=marks)


@pytest.mark.filterwarnings("ignore")  # of other libraries
@pytest.mark.parametrize(("library", "name"), [_parameter(*model) for model in MODELS])
def test_no_axis_is_wrong_in_silence(library: str, name: str) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install --group study -c constraints.txt")
    (model,) = published(library, name)
    found = findings(model)
    assert "error" not in found, found
    assert sum(found["right"].values()) > 10
    assert [call for call in found["wrong"] if call["origin"] != "guess"] == []
