"""Faults of the kernel that joins small batches; see __init__.py."""

FAULTS = {
    "joins batches over each other": (
        "small_batches.cu",
        "        target += size;\n",
        "",
        "test_batches_are_joined[8]",
        "assert",
    ),
    "copies words that end beyond the rows": (
        "copy_bytes.h",
        " && left >= BYTES_AT_ONCE",
        "",
        "test_batches_are_joined[8]",
        "AddressSanitizer",
    ),
}
