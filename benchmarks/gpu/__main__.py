"""All stages in turn, in the order of what they are worth; then a short table.

Each stage writes gpu_<stage>.json as it goes, so that what was seen stays when it is cut, to
benchmarks/results or the folder that the variable TENSORSTATE_GPU_RESULTS names. The sanitizers
come last: some hosts do not let them look at the device.
"""

import argparse
import sys
import time
from importlib import import_module

from benchmarks.gpu import bounded
from benchmarks.gpu.results import machine, show

# The stages, each a module with stage(); and their shares of the time.
SHARES = {"tests": 4.0, "speed": 4.0, "training": 2.0, "sanitizers": 2.0}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(SHARES)}")
    parser.add_argument("--seconds", type=float, default=bounded.ALL_SECONDS, help="for all stages")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.stages) - set(SHARES):
        print(f"no stages {sorted(unknown)}; there are {list(SHARES)}", file=sys.stderr)
        return 2
    try:
        words = machine()
    except (ImportError, RuntimeError) as error:
        print(f"no CUDA GPU can be used here, so nothing was run: {error}", file=sys.stderr)
        return 1
    failed = []
    shares = {name: SHARES[name] for name in chosen.stages or SHARES}
    for name in bounded.in_turn(shares, chosen.seconds):
        begun = time.monotonic()
        try:
            if not import_module(f"benchmarks.gpu.{name}").stage(words):
                failed.append(name)
        except ImportError as error:  # two stages need torch, the others do not
            print(f"{name}: not run, something that it needs is missing: {error}", file=sys.stderr)
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
