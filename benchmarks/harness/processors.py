"""The processors that ran the benchmarks: a file of results for each, and columns of the page."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks/results"
MAKERS = ("AMD", "Intel")  # each has a column, also where none of its processors ran

Results = dict[str, Any]  # "machine" and "cases", as benchmarks/conftest.py writes them


def commit() -> str:
    """The commit that is measured, and whether files differ from it; "unknown" without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def results_file(processor: str) -> str:
    """The name of the file of a processor, as regression_guard.processor() calls it."""
    return f"cpu-{re.sub('[^a-z0-9]+', '-', processor.lower()).strip('-')}.json"


def keep_results(
    folder: Path, processor: str, machine: dict[str, Any], cases: dict[str, Any]
) -> Path:
    """Write what a processor measured to its file; cases that were not measured now stay there.

    Those that ran with other versions, or on another machine with such a processor, keep its words.
    """
    file = folder / results_file(processor)
    earlier: dict[str, Any] = {}
    if file.exists():
        kept = json.loads(file.read_text())
        earlier = {
            name: {"machine": kept["machine"]} | case for name, case in kept["cases"].items()
        }
    for case in earlier.values():
        if case["machine"] == machine:
            del case["machine"]
    file.write_text(_as_json({"machine": machine, "cases": earlier | cases}) + "\n")
    return file


def _as_json(results: dict[str, object]) -> str:
    """One line per contender, four digits per number: small, and readable as a diff."""

    def shorten(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.4g}")
        if isinstance(value, dict):
            return {key: shorten(item) for key, item in value.items()}
        return [shorten(item) for item in value] if isinstance(value, list) else value

    text = json.dumps(shorten(results), indent=1)
    lines: list[str] = []
    inside = False
    for line in text.split("\n"):
        if inside:
            lines[-1] += (
                line.strip()
                if line.strip() == "]" or line.strip() == "],"
                else (line.strip() + " ")
            )
        else:
            lines.append(line)
        inside = line.rstrip().endswith("[") or (inside and not line.strip().startswith("]"))
    return "\n".join(lines).replace(" ]", "]")


def all_results(folder: Path = FOLDER) -> list[Results]:
    """What each processor measured, in the order of the files' names."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("cpu-*.json"))]


def heading(results: Results) -> str:
    """The processor, and the commits at which its cases were measured."""
    machine = results["machine"]
    commits = " and ".join(dict.fromkeys(case["commit"] for case in results["cases"].values()))
    return f"{machine['processor']} ({machine['code for']}), at {commits}"


def code_name(results: Results) -> str:
    """What tells the processor from others in the columns of a table: its file is called so."""
    name: str = results["machine"]["code for"]
    return name


def machines_of(results: Results) -> list[dict[str, Any]]:
    """What ran the cases: the machine that ran last, and others whose cases are kept."""
    machines = [results["machine"]]
    for case in results["cases"].values():
        if case.get("machine", machines[0]) not in machines:
            machines.append(case["machine"])
    return machines


def makers_without_results(kept: list[Results]) -> list[str]:
    return [maker for maker in MAKERS if not any(maker in heading(one) for one in kept)]
