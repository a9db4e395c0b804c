"""Capture points of a few random rows."""

import numpy as np

import tensorstate_gpu as ts


def new_point(path=None, neurons=16, name="layer", **options):
    point = ts.CapturePoint(name, path, **options)
    point.declare(neurons, 1)
    return point


def rows_of(count, neurons=16, seed=0):
    bits = np.random.default_rng(seed).integers(0, 2, (count, neurons), np.uint8)
    return np.packbits(bits, axis=1, bitorder="little")
