"""All stages in turn: tests, speed, training, sanitizers; then a short table.

Each stage writes benchmarks/results/gpu_<stage>.json as it goes, so that what was seen stays when a
later one fails. The sanitizers come last: some hosts do not let them look at the device.
"""

import sys
import time

from benchmarks.gpu import sanitizers, speed, tests, training
from benchmarks.gpu.results import machine, show

STAGES = {
    "tests": tests.stage,
    "speed": speed.stage,
    "training": training.stage,
    "sanitizers": sanitizers.stage,
}


def main(names: list[str]) -> int:
    if unknown := set(names) - set(STAGES):
        print(f"no stages {sorted(unknown)}; there are {list(STAGES)}", file=sys.stderr)
        return 2
    try:
        words = machine()
    except (ImportError, RuntimeError) as error:
        print(f"no CUDA GPU can be used here, so nothing was run: {error}", file=sys.stderr)
        return 1
    failed = []
    for name in names or STAGES:
        begun = time.monotonic()
        try:
            if not STAGES[name](words):
                failed.append(name)
        except Exception as error:  # the other stages are still worth having
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            failed.append(name)
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    show()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
