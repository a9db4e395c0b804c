"""``python -m tensorstate_gpu`` is the command ``tensorstate``."""

import sys

from tensorstate_gpu._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
