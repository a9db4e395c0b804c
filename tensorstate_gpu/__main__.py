"""``python -m tensorstate_gpu`` is the command ``tensorstate``."""

import sys

from tensorstate_gpu.cli import main

if __name__ == "__main__":
    sys.exit(main())
