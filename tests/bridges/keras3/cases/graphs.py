"""The graph of a model, drawn with the efficiency of its layers."""

import keras
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu import reporting
from tests.bridges.keras3.cases.models import convolutional
from tests.support.drawings import edges_of, labels_of


def captured(model, x, attach_to):
    with ts.capture(model, attach_to) as run:
        model.predict(x, verbose=0)
    return run.report()


def words_of(drawing):
    return [label[0] for label in labels_of(drawing.source)]


def test_the_graph_of_a_functional_model(images):
    model = convolutional()
    report = captured(model, images, ["conv", "relu"])
    drawing = reporting.draw_architecture(model, report)
    kinds = [label[1] for label in labels_of(drawing.source)[1:-1]]
    assert kinds == ["Conv2D", "BatchNormalization", "ReLU", "Flatten", "Dropout", "Dense"]
    assert words_of(drawing)[-1] == "output"
    assert edges_of(drawing.source) == [(place, place + 1) for place in range(7)]
    labels = {label[0]: label for label in labels_of(drawing.source)}
    share = f"{100 * report['relu'].efficiency:.1f} % efficient"
    assert labels["relu"] == ("relu", "ReLU", share)
    assert labels["norm"] == ("norm", "BatchNormalization")


def test_nested_models_and_branches(images):
    """A base inside a model, whose output goes two ways; capture layers are not shown."""
    base = keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(3, 3, name="conv")], name="base")
    inputs = keras.Input((8, 8, 2), name="image")
    features = base(inputs)
    added = layers.add([features, layers.ReLU(name="relu")(features)])
    model = keras.Model(inputs, [added, features])
    built = ts.build_efficiency_model(model, ["base/conv", "relu"])
    built.predict(images, verbose=0)
    for shown in (model, built):
        drawing = reporting.draw_architecture(shown, ts.report(built))
        image, conv, relu, add, output = words_of(drawing)
        assert (image, conv, relu, output) == ("image", "base/conv", "relu", "output")
        assert add.startswith("add")
        assert edges_of(drawing.source) == [(0, 1), (1, 2), (1, 3), (1, 4), (2, 3), (3, 4)]
        assert "% efficient" in labels_of(drawing.source)[1][2]


def test_a_layer_that_is_called_twice(images):
    inputs = keras.Input((8, 8, 2))
    dense, relu = layers.Dense(2, name="dense"), layers.ReLU(name="relu")
    model = keras.Model(inputs, relu(dense(relu(dense(inputs)))))
    report = captured(model, images, "relu")
    labels = labels_of(reporting.draw_architecture(model, report).source)
    shares = [f"{100 * report[name].efficiency:.1f} % efficient" for name in ("relu", "relu:2")]
    assert [label[2] for label in labels if "relu" in label[0]] == shares


def test_a_subclassed_model_is_a_tree(images):
    class Outer(keras.Model):
        def __init__(self):
            super().__init__(name="outer")
            self.inner = convolutional()

        def call(self, inputs):
            return self.inner(inputs)

    model = Outer()
    model(images)
    drawing = reporting.draw_architecture(model, captured(model, images, "*conv"))
    assert "the tree of layers: a subclassed model has no graph" in drawing.source
    inner = model.inner.name
    assert words_of(drawing)[:3] == ["outer", inner, f"{inner}/conv"]
    assert edges_of(drawing.source)[:3] == [(0, 1), (1, 2), (1, 3)]
