"""Faults of the kernels of neurons: sums, co-firing and distances; see __init__.py."""

FAULTS = {
    "loses what a byte cannot hold": (
        "neurons.cu",
        "#define GROUPS 31",
        "#define GROUPS 32",
        "test_sums_of_many_words_in_a_thread[1]",
        "assert",
    ),
    "reads words beyond the rows": (
        "neurons.cu",
        "at + 4 <= total",
        "at < total",
        "test_firing_counts[shape2]",
        "AddressSanitizer",
    ),
    "takes states beyond the last": (
        "transpose.cu",
        "if (state < states) word",
        "word",
        "test_cofiring[shape0-1]",
        "AddressSanitizer",
    ),
    "compares strips that are not there yet": (
        "distances.cu",
        "        __syncthreads();\n        add_strips",
        "        add_strips",
        "test_distances[rows2-68]",
        "assert",
    ),
    "compares a share of the words again": (
        "distances.cu",
        "(blockIdx.x % parts) * share",
        "0",
        "test_blocks_share_long_rows_of_few_neurons[132-13]",
        "assert",
    ),
    "adds pairs on one side only": (
        "distances.cu",
        "if (at < to) atomicAdd",
        "if (false) atomicAdd",
        "test_cofiring[shape2-1]",
        "assert",
    ),
    "overwrites what other blocks have added": (
        "distances.cu",
        "atomicAdd(sums + at * count + to, (u64)both[i][j])",
        "sums[at * count + to] = both[i][j]",
        "test_blocks_share_long_rows_of_few_neurons[132-13]",
        "assert",
    ),
}
