"""``python -m benchmarks.studies.neuron_axes``: see study.py."""

from .study import main

if __name__ == "__main__":
    main()
