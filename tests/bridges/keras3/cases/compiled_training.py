"""StateEfficiency in models that XLA compiles, and in those with a train_step of their own."""

import keras
import pytest

from tensorstate_gpu.training import StateEfficiency
from tensorstate_gpu.training.scalars import phase_scalars
from tests.bridges.keras3.cases.callback import Evaluating, V, X, Y, counts_of, network

BACKEND = keras.backend.backend()


def fitted(model, *more):
    """What the callback has added to the logs of two epochs with validation."""
    history = model.fit(
        *(X, Y),
        validation_data=(V, Y[:10]),
        batch_size=12,
        epochs=2,
        callbacks=[StateEfficiency("hidden"), *more],
        verbose=0,
    ).history
    return {name: values for name, values in history.items() if "loss" not in name}


def expected(model):
    """The same by NumPy, which compiles nothing."""
    names = {"": X, "val_": V}
    return {
        name: [value] * 2
        for prefix, x in names.items()
        for name, value in phase_scalars(prefix, {"hidden_states": counts_of(model, x)}).items()
    }


class CompiledDuringFit(keras.callbacks.Callback):
    """Sees whether Keras compiles the model."""

    def on_train_batch_end(self, batch, logs=None):
        self.seen = self.model.jit_compile


@pytest.mark.skipif(BACKEND == "torch", reason="torch.compile is no XLA, and slow to import")
def test_training_and_validation_apart_with_xla():
    """Which TensorFlow does not use meanwhile: its graphs could not reach the capture points."""
    model, compiled = network(), CompiledDuringFit()
    model.compile(keras.optimizers.SGD(0.0), model.loss, jit_compile=True)
    assert fitted(model, compiled) == expected(model)
    assert compiled.seen == (BACKEND == "jax")
    assert model.jit_compile


class Untold(keras.Model):
    """Does not say in which mode it runs."""

    def train_step(self, data):
        return {"loss": keras.ops.mean(self(data[0]))}


@pytest.mark.skipif(BACKEND == "jax", reason="takes training= in each train_step")
def test_training_that_does_not_tell_the_model_its_mode_is_counted():
    told = network()
    model = Untold(told.inputs, told.outputs)
    model.compile(keras.optimizers.SGD(0.0), told.loss)
    assert fitted(model, Evaluating()) == expected(model)


class InEvaluationMode(keras.Model):
    """Trains without what is for training only, such as dropout."""

    if BACKEND == "jax":

        def train_step(self, state, data):
            trainable, others, optimizer, metrics = state
            out, others = self.stateless_call(trainable, others, data[0], training=False)
            return {"loss": keras.ops.mean(out)}, (trainable, others, optimizer, metrics)

    else:

        def train_step(self, data):
            return {"loss": keras.ops.mean(self(data[0], training=False))}


@pytest.mark.each_process
def test_training_in_evaluation_mode_is_counted():
    """Apart from validation, and from what other callbacks evaluate."""
    told = network()
    model = InEvaluationMode(told.inputs, told.outputs)
    model.compile(keras.optimizers.SGD(0.0), told.loss)
    assert fitted(model, Evaluating()) == expected(model)
