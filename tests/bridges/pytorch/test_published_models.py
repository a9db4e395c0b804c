"""The neuron axis in published models, against a truth that the library has no part in.

These are fast ones of different kinds; benchmarks/studies/neuron_axes has many more.
"""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch

from benchmarks.studies.neuron_axes.findings import findings
from benchmarks.studies.neuron_axes.models import published

MODELS = [
    ("timm", "convnext_zepto_rms"),
    ("timm", "vit_tiny_patch16_224"),
    ("transformers", "bert"),
    ("transformers", "convnext"),
    ("transformers", "detr"),
    ("transformers", "gpt2"),
    ("transformers", "gpt_oss"),
    ("transformers", "llama"),
    ("transformers", "qwen3"),
    ("transformers", "segformer"),
    ("transformers", "swin"),
    ("transformers", "t5"),
    ("transformers", "wav2vec2"),
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads for tiny tensors take forty times as long where other tests run, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore")  # of other libraries
@pytest.mark.parametrize(("library", "name"), MODELS, ids=[name for _, name in MODELS])
def test_no_axis_is_wrong_in_silence(library: str, name: str) -> None:
    needed = {"timm": ("timm", "torchvision")}.get(library, (library,))
    if missing := [each for each in needed if find_spec(each) is None]:
        pytest.skip(f"{missing[0]} is not installed: pip install --group study -c constraints.txt")
    (model,) = published(library, name)
    found = findings(model)
    assert "error" not in found, found
    assert sum(found["right"].values()) > 10
    assert [call for call in found["wrong"] if call["origin"] != "guess"] == []
