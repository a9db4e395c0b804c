"""Per-process facilities: locks, interrupts, number of threads, new files, and progress."""
