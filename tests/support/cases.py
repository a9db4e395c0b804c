"""Collects cases that run in a process of their own: each is one result, with one process for all.

A folder named ``cases`` says in its ``__init__.py`` how its files are run:

    FILES      the files with cases
    PROCESSES  name of a process -> what is added to its environment, or a function that tells; the
               name stands in the ids of its cases, unless it is empty
    OPTIONS    more arguments of pytest, where there are any
    SPREAD     names of processes: `make test` runs each case in one of them, `make test-all` in
               all processes; a name that stands there twice gets two shares; a case that is marked
               each_process runs in all there too

Those files are imported in such processes only: frameworks exclude each other, and JAX warns of
every fork once it is imported. Which cases there are is asked once, and kept in pytest's cache
until a source changes. The cases of a process that are selected run in one go, in order; each is
reported as soon as it has ended, as it was reported there.
"""

import contextlib
import functools
import hashlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

try:
    import fcntl
except ImportError:  # two processes may then do the same work
    fcntl = None

ROOT = Path(__file__).parents[2]
HANGING_SECONDS = 900  # without a case that ends
NOT_PASSED_ON = {"parametrize", "usefixtures", "filterwarnings", "skip", "skipif", "xfail"}
# What decides which cases there are, besides their own folder.
SOURCES = ("tests/conftest.py", "tests/support", "tensorstate_gpu", "bridges", "cpu_fallback")
_processes = pytest.StashKey[dict]()


def runs_here(config):
    """Whether this process is one for cases, or the suite runs on a GPU."""
    inside = config.pluginmanager.hasplugin("tests.support.case_process")
    return inside or bool(os.environ.get("TENSORSTATE_TEST_GPU"))


@functools.cache
def described(folder):
    return {"OPTIONS": (), "SPREAD": (), **runpy.run_path(str(folder / "__init__.py"))}


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    found = yield
    if file_path.parent.name != "cases" or runs_here(parent.config):
        return found
    if file_path.name not in described(file_path.parent)["FILES"]:
        return []
    return [CaseFile.from_parent(parent, path=file_path)]


class CaseFile(pytest.File):
    """A file whose cases run elsewhere."""

    def collect(self):
        about = described(self.path.parent)
        for case in cases_in(self.config, self.path.parent):
            if case["file"] != self.path.name:
                continue
            always = processes_of(case, about)
            for process in about["PROCESSES"]:
                item = Case.from_parent(self, name=named(case["name"], process))
                item.case, item.process = case, process
                for mark in {*case["marks"]} - NOT_PASSED_ON:
                    item.add_marker(mark)
                if process not in always:
                    item.add_marker("long")
                yield item


def processes_of(case, about):
    """The processes in which `make test` runs a case."""
    spread = about["SPREAD"]
    # Where a case may be skipped in some processes, it could be spread to one of these.
    if not spread or {"each_process", "skipif"} & {*case["marks"]}:
        return list(about["PROCESSES"])
    # By its name: always the same one, whatever other cases there are.
    return [spread[zlib.crc32(case["name"].encode()) % len(spread)]]


class Case(pytest.Item):
    def reportinfo(self):
        return self.path, self.case["line"], self.name

    def runtest(self):
        raise NotImplementedError  # pytest_runtest_protocol does all


def named(case, process):
    """The name of a case in one of its processes, as pytest names parametrized tests."""
    if not process:
        return case
    name, bracket, rest = case.partition("[")
    return f"{name}[{process}-{rest}" if bracket else f"{name}[{process}]"


# ---- which cases there are -----------------------------------------------------------------------


def cases_in(config, folder):
    """The cases of a folder: the same in each of its processes."""
    try:
        cache = config.cache.mkdir("cases")
    except AttributeError:  # -p no:cacheprovider
        return listed(config, folder)
    kept = {
        each: cache / f"{digest_of(each, config.rootpath)}.json"
        for each in {folder, *needed_folders(config)}
    }
    with locked(cache / "lock"):
        missing = [each for each in kept if not kept[each].exists()]
        with ThreadPoolExecutor() as pool:  # processes side by side
            lists = pool.map(partial(listed, config), missing)
            for each, found in zip(missing, lists, strict=True):
                kept[each].with_suffix(".new").write_text(json.dumps(found))
                kept[each].with_suffix(".new").replace(kept[each])
    return json.loads(kept[folder].read_text())


def needed_folders(config):
    """All folders with cases, where all of tests/ is collected."""
    tests = config.rootpath / "tests"
    if tests not in [config.invocation_params.dir / argument for argument in config.args]:
        return []
    folders = tests.rglob("cases")
    return [each for each in folders if each.is_dir() and described(each)["FILES"]]


@functools.cache
def digest_of(folder, root):
    digest = hashlib.sha256()
    for place in [folder, *(root / source for source in SOURCES)]:
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(f"{file}\n".encode() + (file.read_bytes() if file.exists() else b""))
    return digest.hexdigest()[:32]


@functools.cache
def listed(config, folder):
    process = next(iter(described(folder)["PROCESSES"]))
    with tempfile.TemporaryDirectory() as notes:
        running = start(config, folder, process, Path(notes), "--collect-only")
        running.wait(HANGING_SECONDS)
        lines = Lines(notes).new()
        if running.returncode or not lines:
            raise pytest.Collector.CollectError(said(notes))
    return lines[0]["collected"]


@contextlib.contextmanager
def locked(path):
    with open(path, "w") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# ---- processes -----------------------------------------------------------------------------------


def start(config, folder, process, notes, *options):
    """Start a process with the cases of a folder; case_process.py is its plugin."""
    about = described(folder)
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.case_process"]
    # What is written past Python stays, whatever becomes of the process: --capture=sys.
    command += ["-p", "no:cacheprovider", "--capture=sys", "--rootdir", str(config.rootpath)]
    command += [*about["OPTIONS"], *options, *(str(folder / file) for file in about["FILES"])]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_ADDOPTS", "PYTEST_XDIST", "TENSORSTATE_TEST_"))
    }
    more = about["PROCESSES"][process]
    environment |= more() if callable(more) else more
    environment["TENSORSTATE_CASES"] = str(notes)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with open(notes / "output", "w") as output:
        return subprocess.Popen(
            command,
            cwd=config.rootpath,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


class Lines:
    """What a process writes, as far as it has come."""

    def __init__(self, notes):
        self._path, self._at, self._begun = Path(notes, "lines"), 0, b""

    def new(self):
        if not self._path.exists() or self._path.stat().st_size == self._at:
            return []
        with open(self._path, "rb") as file:
            file.seek(self._at)
            text = file.read()
        self._at += len(text)
        *lines, self._begun = (self._begun + text).split(b"\n")
        return [json.loads(line) for line in lines]


def said(notes):
    return Path(notes, "output").read_text(errors="replace")[-8000:]


class Process:
    """A process with all selected cases of its kind, in the order in which this one runs them."""

    def __init__(self, session, folder, name):
        self._items = [
            item
            for item in session.items
            if isinstance(item, Case) and (item.path.parent, item.process) == (folder, name)
        ]
        self._folder = tempfile.TemporaryDirectory()
        self._notes = Path(self._folder.name)
        selected = [item.case["id"] for item in self._items]
        (self._notes / "selected").write_text(json.dumps(selected))
        self._listed = [case["id"] for case in cases_in(session.config, folder)]
        self._running = start(session.config, folder, name, self._notes)
        self._lines, self._reports, self._ended = Lines(self._notes), {}, set()
        self._problem, self._failures = "", False

    def reports(self, item):
        """All reports of a case, as soon as it has ended; one more where it never did."""
        case = item.case["id"]
        changed = time.monotonic()
        while case not in self._ended:
            ended = self._running.poll() is not None  # asked before, so that nothing is missed
            if self._read():
                changed = time.monotonic()
            elif ended:
                break
            elif time.monotonic() > changed + HANGING_SECONDS:
                self._problem = f"No case has ended for {HANGING_SECONDS} seconds."
                self.end()
            else:
                time.sleep(0.05)
        found = [reported(item, data) for data in self._reports.pop(case, [])]
        if case not in self._ended:
            phase = "teardown" if any(report.when == "call" for report in found) else "call"
            found.append(self._failed(item, phase, "ended before this case did"))
        elif item is self._items[-1] and (problem := self._after_the_last()):
            found.append(self._failed(item, "teardown", problem))
        return found

    def _read(self):
        new = self._lines.new()
        for line in new:
            if "report" in line:
                self._failures |= line["report"]["outcome"] == "failed"
                self._reports.setdefault(line["report"]["nodeid"], []).append(line["report"])
            elif "ended" in line:
                self._ended.add(line["ended"])
            elif {case["id"] for case in line["collected"]} != {*self._listed}:
                self._problem = "It has other cases than were listed: remove .pytest_cache."
        return new

    def _after_the_last(self):
        code = self._running.wait(HANGING_SECONDS)
        wrong = code != int(self._failures) or self._problem
        return f"ended with exit code {code}" if wrong else ""

    def _failed(self, item, phase, problem):
        code = self._running.poll()
        text = f"The process of this case {problem}; exit code {code}. {self._problem}\n"
        return pytest.TestReport(
            item.nodeid, item.location, {}, "failed", text + said(self._notes), phase
        )

    def end(self):
        self._running.kill()
        self._running.wait()

    def clear(self):
        self.end()
        self._folder.cleanup()


def reported(item, data):
    report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
    report.nodeid, report.location = item.nodeid, item.location
    if isinstance(report.longrepr, list):  # JSON knows no tuples: where and why it was skipped
        report.longrepr = tuple(report.longrepr)
    return report


# ---- running -------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if not isinstance(item, Case):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    processes = item.session.stash.setdefault(_processes, {})
    key = item.path.parent, item.process
    if key not in processes:
        processes[key] = Process(item.session, *key)
    for report in processes[key].reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # What the item before had set up for this one's folder, and the next does not share.
    item.session._setupstate.teardown_exact(nextitem)
    return True


def pytest_sessionfinish(session):
    for process in session.stash.get(_processes, {}).values():
        process.clear()
