"""Faults of the kernels of stages; see __init__.py."""

FAULTS = {
    "appends what does not fit": (
        "stage.cu",
        "status[ACTIVE] && status[ROWS] + number <= capacity",
        "status[ACTIVE]",
        "test_what_replays_lose_is_told",
        "AddressSanitizer",
    ),
    "appends over the batch before": (
        "stage.cu",
        "rows + status[ROWS] * width + byte",
        "rows + byte",
        "test_replays_are_counted[0]",
        "assert",
    ),
    "notes a batch before its labels": (
        "stage.cu",
        "    __syncthreads();  // all threads have read the status\n",
        "",
        "test_labels_of_replays",
        "assert",
    ),
    "appends while it is not active": (
        "stage.cu",
        "if (!status[ACTIVE]) return;",
        "",
        "test_the_host_does_not_wait_to_sample",
        "assert",
    ),
}
