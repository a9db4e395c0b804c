"""Per-process facilities: locks, interrupts, number of threads, and creation of files."""
