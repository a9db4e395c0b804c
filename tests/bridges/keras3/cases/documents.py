"""What the documents and the docstrings say of Keras."""

import keras
from keras.src.models.functional import Functional

import tensorstate_gpu as ts
from tests.support import bridge_doctests
from tests.support.pages import programs_of, run


@bridge_doctests.doctests_of("keras3")
def test_doctests(name):
    bridge_doctests.check_doctests(name)


def test_the_code_of_the_page_on_keras_runs(capsys):
    run(programs_of("docs/keras.md")[0])
    assert "conv_states" in capsys.readouterr().out


def test_rows_of_the_page_on_tensorstate():
    """The names of layers in Keras, and the class of a captured Keras model."""
    layers = [keras.Input((3,)), keras.layers.Dense(2, name="d")]
    model = ts.build_efficiency_model(keras.Sequential(layers), "d", method="both")
    assert [point.name for point in model.efficiency_layers] == ["d_pre_states", "d_states"]
    assert type(model).__name__ == "EfficiencyModel"
    assert isinstance(model, Functional)
