"""The test suite's cases on the device: they fail, and are not skipped, where there is none."""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from benchmarks.gpu import bounded
from benchmarks.gpu.results import write

FILES = (
    "packing.py",
    "counting.py",
    "capture.py",
    "measures.py",
    "streams.py",
    "shortage.py",
    "only_gpu.py",
)
SECONDS = 200


def stage(words: dict[str, Any]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider"]
        command += ["-W", "default"]  # of other versions than ours
        command += [f"--junitxml={report}", *(f"tests/cuda/cases/{file}" for file in FILES)]
        try:
            code = bounded.run(command, SECONDS).returncode
        except subprocess.TimeoutExpired:
            code = -1
        found = summary(report.read_text()) if report.exists() else {}
    write("tests", words, {"exit code": code, **found})
    return code == 0


def summary(report: str) -> dict[str, Any]:
    """How many passed; and which did not, with the first line of what they said."""
    said: dict[str, dict[str, str]] = {"failed": {}, "skipped": {}}
    total, seconds = 0, 0.0
    for case in ElementTree.fromstring(report).iter("testcase"):
        total += 1
        seconds += float(case.get("time", 0))
        for tag, kind in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
            if (problem := case.find(tag)) is not None:
                message = (problem.get("message") or "").splitlines()
                said[kind][case.get("name", "")] = message[0] if message else ""
    passed = total - len(said["failed"]) - len(said["skipped"])
    return {"passed": passed, "seconds": round(seconds, 1), **said}
