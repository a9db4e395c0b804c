"""Single questions, each a program of its own: ``python -m benchmarks.studies.NAME``."""
