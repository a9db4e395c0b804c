"""What a process has once: locks, interrupts, its number of threads, and files it creates."""
