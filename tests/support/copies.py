"""The ways in which users copy an object, for tests of what a copy has."""

import copy
import io
import pickle

import pytest


def through_joblib(value):
    """Return the value after joblib has written and read it."""
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    joblib.dump(value, file)
    file.seek(0)
    return joblib.load(file)


def through_torch(value):
    """Return the value after torch.save and torch.load."""
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def through_pickle(value):
    """Return the value after pickle, in its newest format, has written and read it."""
    return pickle.loads(pickle.dumps(value))


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": through_pickle,
    "old pickle": lambda value: pickle.loads(pickle.dumps(value, 0)),
    "joblib": through_joblib,
    "torch.save": through_torch,
}


def copies(*names):
    """Parametrise a test by ``copied``: a function that copies in one of these ways, or in any."""
    chosen = names or tuple(COPIES)
    return pytest.mark.parametrize("copied", [COPIES[name] for name in chosen], ids=chosen)
