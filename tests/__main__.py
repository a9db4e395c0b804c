"""Runs the suite: `make test`, and with everything that takes long `make test-all`.

Two runs of pytest: first several processes side by side, then what is marked serial, alone. The
last line counts both, as pytest's own would. Arguments are pytest's; --all is ours.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NOTHING_COLLECTED = 5
# Whoever says one of these wants one process, or says how many.
NOT_SIDE_BY_SIDE = ("--pdb", "--trace", "--collect-only", "--co", "-n", "--numprocesses")
MOST_PROCESSES = 8  # each takes 1.5 GB
# Of one test. It ends what hangs, and says where, before a whole check is cut at 90 minutes.
HANGING_SECONDS = 900


def main(arguments):
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("-m", default="", dest="marks")
    options, rest = parser.parse_known_args(arguments)
    marks = [f"({options.marks})"] if options.marks else []
    if not options.all:
        marks.append("not long")
        rest.append(f"--timeout={HANGING_SECONDS}")
    beside = []
    if not any(word.startswith(NOT_SIDE_BY_SIDE) for word in rest):
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
        beside = [f"-n{min(cores, MOST_PROCESSES)}"]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes.json")
        codes = [run(notes, [*beside, *rest, "-m", " and ".join([*marks, "not serial"])])]
        said = json.loads(notes.read_text()) if notes.exists() else {}
        stopped = codes[0] and {"-x", "--exitfirst"} & {*rest}
        if (files := said.get("serial")) and not stopped:
            # Where arguments name no paths, only files that have such tests are looked at.
            rest += ["-o", f"testpaths={' '.join(files)}", "-m", " and ".join([*marks, "serial"])]
            codes.append(run(notes, rest))
            more = json.loads(notes.read_text())
            said["counts"] = {
                outcome: said["counts"].get(outcome, 0) + more["counts"].get(outcome, 0)
                for outcome in {**said["counts"], **more["counts"]}
            }
    if len(codes) == 2:
        print(closing_line(said["counts"], time.monotonic() - start))
    return next((code for code in codes if code not in (0, NOTHING_COLLECTED)), min(codes))


def run(notes, arguments):
    """The exit code of one run of pytest; the plugin two_runs notes what came of it."""
    environment = os.environ | {"TENSORSTATE_TEST_NOTES": str(notes)}
    # Else the hundreds of programs that the tests start would compile every module anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    # Sets have one order in all processes, else these would not find the same names of tests.
    environment.setdefault("PYTHONHASHSEED", str(random.randrange(2**32)))
    # Else threads of torch wait for each other in busy loops, on cores that others could use: two
    # tests of training took 27 s of processor time on two busy cores, and take 17.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.two_runs", *arguments]
    return subprocess.run(command, env=environment, cwd=Path(__file__).parents[1]).returncode


def closing_line(counts, seconds):
    """As pytest's last line, over both runs."""
    said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    line = f" {said or 'no tests ran'} in {seconds:.2f}s "
    if seconds >= 60:
        minutes, seconds = divmod(int(seconds), 60)
        line += f"({minutes // 60}:{minutes % 60:02}:{seconds:02}) "
    return line.center(80, "=")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
