"""Faults planted in kernels, each of which a test case must see, by what the kernels do."""

from . import counting, neurons, packing, small_batches, stages

# Of each: the kernel file, its text, the replacement, the test case that must fail, and a part of
# its output.
FAULTS = packing.FAULTS | counting.FAULTS | neurons.FAULTS | stages.FAULTS | small_batches.FAULTS
