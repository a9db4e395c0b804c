"""What capture points and runs refuse: at once, naming the argument, with nothing kept."""

import math

import numcodecs
import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.support.points import new_point


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": ""}, TypeError, "name"),
        ({"name": 3}, TypeError, "name"),
        ({"name": None}, TypeError, "name"),
        ({"keep": "rows"}, ValueError, "keep"),
        ({"keep": None}, ValueError, "keep"),
        ({"keep": ["states"]}, ValueError, "keep"),
        ({"keep": "counts", "compressor": object()}, ValueError, "compressor"),
        ({"threshold": math.nan}, ValueError, "threshold"),
        ({"threshold": [0.0, math.nan]}, ValueError, "threshold"),
        ({"threshold": "0.5"}, TypeError, "threshold"),
        ({"threshold": None}, TypeError, "threshold"),
        ({"threshold": 1j}, TypeError, "threshold"),
        ({"neuron_axis": "1"}, TypeError, "neuron_axis"),
        ({"neuron_axis": True}, TypeError, "neuron_axis"),
        ({"neuron_axis": 1.0}, TypeError, "neuron_axis"),
        ({"compressor": "zlib"}, TypeError, "compressor.*got str 'zlib'"),
        ({"compressor": numcodecs.Zlib}, TypeError, "compressor"),
        ({"compressor": numcodecs.Delta("f8")}, (TypeError, ValueError), "compressor"),
        ({"compressor": numcodecs.Quantize(1, "f4")}, (TypeError, ValueError), "compressor"),
        ({"disk_path": 5}, TypeError, "path must be a str, a path or an obstore store, got int"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        ts.CapturePoint(**{"name": "layer", **options})


@pytest.mark.parametrize(
    ("neurons", "error"),
    [(0, ValueError), (-8, ValueError), ("8", TypeError), (True, TypeError), (8.0, TypeError)],
)
def test_bad_numbers_of_neurons(neurons, error):
    point = ts.CapturePoint("layer")
    with pytest.raises(error, match="neurons must be"):
        point.declare(neurons)
    assert point.neurons is None


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize(
    ("packed", "instances", "error", "words"),
    [
        ([[1]], 1, TypeError, "packed must be a NumPy array, got list"),
        (np.ma.zeros((1, 1), np.uint8), 1, TypeError, "packed must be a NumPy array, got Masked"),
        (np.zeros((1, 1), np.uint8), 1.0, TypeError, "instances must be an integer"),
        (np.zeros((1, 1), np.uint8), None, TypeError, "instances must be an integer"),
        (np.array([[1], [8]], np.uint8), 2, ValueError, "bits set beyond their 3 neurons"),
    ],
)
def test_bad_rows(packed, instances, error, words, keep):
    point = new_point(neurons=3, keep=keep)
    with pytest.raises(error, match=words):
        point.append(packed, instances)
    assert point.state_count == point.instance_count == 0
    point.append(np.array([[7]], np.uint8), 1)
    assert point.counts().tolist() == [1]


def test_an_index_out_of_range_is_named():
    point = new_point(neurons=8)
    point.append(np.zeros((4, 1), np.uint8), 4)
    for index, given in (
        (4, "4$"),
        (-5, "-5$"),
        ([0, 9], "0 to 9$"),
        (np.array([-1, 17]), "-1 to 17$"),
    ):
        with pytest.raises(IndexError, match=f"index must be within the 4 instances, got {given}"):
            point.counts(index)
    assert point.counts([-4, 3]).tolist() == [2]


def test_what_is_given_or_read_is_not_shared():
    threshold = np.zeros(3)
    point = ts.CapturePoint("layer", threshold=threshold, neuron_axis=np.int64(1))
    threshold[:] = 5
    assert point.threshold == (0.0, 0.0, 0.0)
    assert type(point.neuron_axis) is int
    point.declare(3)
    point.append(np.ones((1 << 22, 1), np.uint8), 1)  # one whole chunk and
    point.append(np.ones((2, 1), np.uint8), 1)  # a part of one
    for chunk in point.chunks():
        with pytest.raises(ValueError, match="read-only"):
            chunk[:] = 0
    assert len(list(point.chunks())) == 2


@pytest.mark.parametrize(
    ("points", "error", "words"),
    [
        ([1], TypeError, "points must be CapturePoints, got int"),
        (ts.CapturePoint("a"), TypeError, r"got one: Run\(\[point\]\)"),
        ([ts.CapturePoint("a"), ts.CapturePoint("b"), ts.CapturePoint("a")], ValueError, "'a'"),
    ],
)
def test_runs_of_what_cannot_be_told_apart(points, error, words):
    with pytest.raises(error, match=words):
        ts.Run(points)


def test_instances_below_zero_are_refused():
    point = new_point(neurons=8)
    with pytest.raises(ValueError, match="do not divide into -2 instances"):
        point.append(np.zeros((4, 1), np.uint8), -2)
    assert point.state_count == point.instance_count == 0


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("packed", [np.ones((4, 1), np.uint8), np.ones((4, 2), np.int64)])
def test_a_bridge_that_hands_on_other_rows(keep, packed):
    point = new_point(keep=keep)
    with pytest.raises(ValueError, match=r"uint8 of shape \(states, 2\)"):
        point.record(packed, neurons=16, axis=1, instances=4)
    assert point.state_count == 0
