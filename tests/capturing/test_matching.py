"""Which layers a user means; framework-neutral, so plain classes stand for layers."""

import pytest

from tensorstate_gpu._capturing.matching import match


class Conv2d:
    pass


class QuantConv2d(Conv2d):
    pass


class Linear:
    pass


class ReLU:
    pass


LAYERS = [
    ("features.0", Conv2d()),
    ("features.1", ReLU()),
    ("features.10", QuantConv2d()),
    ("head", Linear()),
    ("blocks[0]", Linear()),
    ("Linear", ReLU()),  # a name that is another layer's class name
]
ALL = [name for name, _ in LAYERS]


def names(attach_to, exclude=()):
    return [name for name, _ in match(LAYERS, attach_to, exclude)]


def is_first(name, layer):
    return name.endswith(".0") and isinstance(layer, Conv2d)


@pytest.mark.parametrize(
    ("attach_to", "expected"),
    [
        ("head", ["head"]),
        ("features.1", ["features.1"]),  # not features.10
        ("features.0", ["features.0"]),
        ("Conv2d", ["features.0"]),  # by class name: exactly that class
        ("Linear", ["head", "blocks[0]", "Linear"]),  # a class name and a name
        ("features.*", ["features.0", "features.1", "features.10"]),
        ("features.?", ["features.0", "features.1"]),
        ("*.1[0-9]", ["features.10"]),
        ("*Conv?d", ["features.0", "features.10"]),
        ("[CL]*", ["features.0", "head", "blocks[0]", "Linear"]),
        ("*", ALL),
        ("blocks[0]", ["blocks[0]"]),  # a name with the characters of a glob
        (Conv2d, ["features.0", "features.10"]),  # a class: its instances, subclasses too
        (object, ALL),
        (is_first, ["features.0"]),
        (lambda name, layer: 1 if "o" in name else 0, ["blocks[0]"]),
        (["head", "features.1"], ["features.1", "head"]),  # the model's order
        (["head", "head", Linear], ["head", "blocks[0]"]),  # each layer once
        (("ReLU", QuantConv2d, is_first), ["features.0", "features.1", "features.10", "Linear"]),
        ({"head"}, ["head"]),
        ((word for word in ["head", "ReLU"]), ["features.1", "head", "Linear"]),
        (["no such layer", "head"], ["head"]),
    ],
)
def test_what_is_meant(attach_to, expected):
    assert names(attach_to) == expected


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        ((), ALL),
        ([], ALL),
        ("features.*", ["head", "blocks[0]", "Linear"]),
        ("Linear", ["features.0", "features.1", "features.10"]),
        (Conv2d, ["features.1", "head", "blocks[0]", "Linear"]),
        (is_first, ALL[1:]),
        (["head", ReLU], ["features.0", "features.10", "blocks[0]"]),
        ("no such layer", ALL),
    ],
)
def test_exclude_wins(exclude, expected):
    assert names("*", exclude) == expected


def test_exclude_wins_over_the_plain_name():
    with pytest.raises(ValueError, match="with exclude='h\\*' matches no layer"):
        names("head", "h*")


@pytest.mark.parametrize("wrong", [lambda layer: True, lambda: True, lambda a, b, c: True])
def test_a_predicate_takes_the_name_and_the_layer(wrong):
    for argument, call in (("attach_to", [wrong]), ("exclude", ["*", wrong])):
        with pytest.raises(TypeError, match=rf"{argument} function must take \(name, layer\)"):
            names(*call)


def test_errors_inside_a_predicate_stay():
    with pytest.raises(TypeError, match="unsupported operand"):
        names(lambda name, layer: name + 1 if layer is None else 1 + layer)


def test_case_matters():
    with pytest.raises(ValueError, match="matches no layer"):
        names("HEAD")


def test_layers_come_back_as_they_are():
    assert match(LAYERS, "head") == [LAYERS[3]]
    assert match(LAYERS, "head")[0][1] is LAYERS[3][1]


def listed(message):
    return message.split("there are: ")[1].split(", ")


@pytest.mark.parametrize(
    ("attach_to", "closest"),
    [
        ("haed", "head (Linear)"),
        ("feature.10", "features.10 (QuantConv2d)"),
        ("conv2d", "features.0 (Conv2d)"),
        (["RELU"], "features.1 (ReLU)"),
        (["xyz", "QuantConv"], "features.10 (QuantConv2d)"),
    ],
)
def test_nothing_matched_lists_the_layers_closest_first(attach_to, closest):
    with pytest.raises(ValueError, match="matches no layer") as raised:
        names(attach_to)
    found = listed(str(raised.value))
    assert found[0] == closest
    assert sorted(found) == sorted(f"{name} ({type(layer).__name__})" for name, layer in LAYERS)
    assert repr(attach_to) in str(raised.value)


def test_nothing_matched_by_class_or_predicate_lists_in_order():
    for attach_to in (int, lambda name, layer: False, [int]):
        with pytest.raises(ValueError, match="there are: ") as raised:
            names(attach_to)
        assert listed(str(raised.value))[0] == "features.0 (Conv2d)"


def test_a_long_list_is_cut():
    layers = [(f"layer{k}", Linear()) for k in range(50)]
    with pytest.raises(ValueError, match=r"and 30 more$") as raised:
        match(layers, "layer_49")
    assert listed(str(raised.value))[0] == "layer49 (Linear)"


def test_a_model_without_layers():
    with pytest.raises(ValueError, match="there are: none"):
        match([], "*")


@pytest.mark.parametrize("attach_to", [[], (), iter([])])
def test_an_empty_list_names_no_layer(attach_to):
    with pytest.raises(ValueError, match="attach_to names no layer"):
        names(attach_to)


@pytest.mark.parametrize("bad", [3, None, [3], ["head", None], 1.5, [["head"]]])
def test_bad_patterns(bad):
    with pytest.raises(TypeError, match="attach_to must be a layer name, class name, glob"):
        names(bad)
    with pytest.raises(TypeError, match="exclude must be a layer name, class name, glob"):
        names("head", bad)


class Layer:
    def __call__(self, name, layer):
        raise AssertionError("a layer was called")


@pytest.mark.parametrize("wrap", [lambda layer: layer, lambda layer: ["b", layer]])
def test_a_layer_of_another_model_is_no_predicate(wrap):
    class Other(Layer):
        pass

    layers = [("a", Layer()), ("b", Other())]
    cause = r"a Other that is given is no layer of this model; there are: a \(Layer\), b \(Other\)"
    with pytest.raises(ValueError, match="attach_to: " + cause):
        match(layers, wrap(Other()))
    with pytest.raises(ValueError, match="exclude: " + cause):
        match(layers, "b", wrap(Other()))
    assert match(layers, wrap(layers[1][1])) == layers[1:]


def test_a_predicate_that_raises_is_not_hidden():
    def broken(name, layer):
        raise LookupError(name)

    with pytest.raises(LookupError, match="features"):
        names(broken)


def test_a_layer_of_the_model_means_itself():
    class Layer:
        def __call__(self, *args):
            raise AssertionError("called as a predicate")

    first, second = Layer(), Layer()
    layers = [("first", first), ("second", second)]
    assert match(layers, second) == [("second", second)]
    assert match(layers, [first, second], exclude=first) == [("second", second)]
