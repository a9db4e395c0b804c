"""The cases of the bridge to Keras: one body for each behaviour, run once on each backend."""

from tests.bridges.jax.cases import WITHOUT_LLVM

FILES = (
    *("modes.py", "structures.py", "copies.py", "bad_input.py", "repeated_calls.py"),
    *("loose_ends.py", "neuron_axes.py"),
)
PROCESSES = {
    backend: {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    for backend in ("tensorflow", "jax", "torch")
}
# As in tests/bridges/jax/cases: compiling takes half as long.
PROCESSES["jax"]["XLA_FLAGS"] = WITHOUT_LLVM
# Warnings of the frameworks are not ours to mend; ours are errors.
OPTIONS = ("-W", "default", "-W", "error:::tensorstate_gpu")
