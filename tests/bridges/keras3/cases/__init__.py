"""The cases of the bridge to Keras: one body for each behaviour, run once on each backend.

In `make test` a case runs on one of them, which its name decides; on all where it is marked
each_process, because it is about what differs: how a backend runs a model, compiled or eagerly.
"""

from tests.bridges.jax.cases import WITHOUT_LLVM

FILES = (
    *("modes.py", "structures.py", "copies.py", "bad_input.py", "repeated_calls.py"),
    *("regressions.py", "neuron_axes.py", "training_mode.py", "call_sites.py"),
    *("labels.py", "capture_layers.py", "choosing.py", "passes.py", "masks.py", "callback.py"),
    *("graphs.py", "capture_command.py", "documents.py", "true_axes.py", "compiled_training.py"),
    *(
        "inputs.py",
        "moved_axes.py",
        "quantised.py",
        "layers_in_code.py",
        "calls_in_code.py",
        "loops_in_code.py",
        "without_neurons.py",
        "failed_attaching.py",
        "generating.py",
        "what_is_over.py",
        "own_functions.py",
        "kept_traces.py",
        "own_compiling.py",
        "checkpoints.py",
        "other_frameworks.py",
    ),
)
PROCESSES = {
    backend: {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    for backend in ("tensorflow", "jax", "torch")
}
# As in tests/bridges/jax/cases: compiling takes half as long.
PROCESSES["jax"]["XLA_FLAGS"] = PROCESSES["tensorflow"]["XLA_FLAGS"] = WITHOUT_LLVM
# Models that are distributed are refused: there are devices to distribute them over.
PROCESSES["jax"]["XLA_FLAGS"] += " --xla_force_host_platform_device_count=2"
# Its pools of threads cost more than these small models.
PROCESSES["tensorflow"] |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
# On JAX, whose compiler is slow, a case takes five times as long as on the others.
SPREAD = ("tensorflow", "torch", "tensorflow", "torch", "tensorflow", "torch", "jax")
# Warnings of the frameworks are not ours to mend; ours are errors.
OPTIONS = ("-W", "default", "-W", "error:::tensorstate_gpu")
