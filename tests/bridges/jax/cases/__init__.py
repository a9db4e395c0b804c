"""The cases of JAX, in a process of its own: JAX warns of every fork once it is imported."""

FILES = ("transformations.py", "taps.py", "several_devices.py", "layers_of_loops.py")
FILES += ("bits.py", "padded_counts.py", "documents.py", "other_versions.py")
# LLVM takes most of the time; what JAX and XLA make of a program is the same without it.
WITHOUT_LLVM = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
PROCESSES = {"": {"XLA_FLAGS": f"{WITHOUT_LLVM} --xla_force_host_platform_device_count=4"}}
