"""The memory limit: given, from the environment, or a share of what the machine has."""

from concurrent.futures import ThreadPoolExecutor

import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._process import memory_limit as module


@pytest.fixture(autouse=True)
def _default_again(monkeypatch):
    monkeypatch.delenv("TENSORSTATE_MEMORY_LIMIT", raising=False)
    yield
    ts.set_memory_limit(None)


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (100_000_000, 100_000_000),
        ("2GB", 2 * 10**9),
        ("1.5 gib", 3 << 29),
        (" 512MiB ", 512 << 20),
        ("70000000", 70_000_000),
        ("1T", 10**12),
        ("300000 kB", 300_000_000),
    ],
)
def test_sizes(given, size, monkeypatch):
    ts.set_memory_limit(given)
    assert ts.get_memory_limit() == module.explicit_memory_limit() == size
    ts.set_memory_limit(None)
    assert module.explicit_memory_limit() is None
    monkeypatch.setenv("TENSORSTATE_MEMORY_LIMIT", str(given))
    assert ts.get_memory_limit() == module.explicit_memory_limit() == size


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "", "GB", "2 EB", "2 iB", "-2GB", "63MiB", []])
def test_bad_sizes(bad, monkeypatch):
    with pytest.raises((TypeError, ValueError), match="limit must be"):
        ts.set_memory_limit(bad)
    if isinstance(bad, str) and bad:
        monkeypatch.setenv("TENSORSTATE_MEMORY_LIMIT", bad)
        with pytest.raises(ValueError, match=r"TENSORSTATE_MEMORY_LIMIT must be"):
            ts.get_memory_limit()


def a_machine(monkeypatch, folder, memory, groups, limits):
    """Set what the system tells: the memory, the control groups of this process, their limits."""
    monkeypatch.setattr(module, "_of_machine", lambda: memory)
    monkeypatch.setattr(module, "_PROC", folder / "proc")
    monkeypatch.setattr(module, "_CONTROL_GROUPS", folder / "groups")
    monkeypatch.setattr(module, "_last_found", None)
    (folder / "proc/self").mkdir(parents=True)
    if groups is not None:
        (folder / "proc/self/cgroup").write_text(groups)
    for name, text in limits.items():
        file = folder / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.mark.parametrize(
    ("memory", "groups", "limits", "expected"),
    [
        (10_000, None, {}, 6000),  # not Linux
        (None, None, {}, int(0.6 * (4 << 30))),  # Windows
        (10_000, "0::/\n", {"memory.max": "5000\n"}, 3000),  # a container
        (10_000, "0::/\n", {"memory.max": "max\n"}, 6000),
        (10_000, "0::/a/b\n", {"a/memory.max": "1000\n", "a/b/memory.max": "max\n"}, 600),
        (10_000, "0::/of/the/host\n", {"memory.max": "2000\n"}, 1200),
        (10_000, "3:cpu:/\n5:memory:/a\n", {"memory/a/memory.limit_in_bytes": "500\n"}, 300),
        (10_000, "5:memory:/\n", {"memory/memory.limit_in_bytes": f"{2**63}\n"}, 6000),
    ],
)
def test_a_share_of_the_memory_that_there_is(
    memory, groups, limits, expected, tmp_path, monkeypatch
):
    a_machine(monkeypatch, tmp_path, memory, groups, limits)
    assert ts.get_memory_limit() == expected


@pytest.mark.parametrize(
    ("most", "pages", "expected"),
    [
        (1 << 30, "65536 9 9 9 0 9 0\n", (1 << 30) - 65536 * 4096),
        (1 << 30, "262144 9 9 9 0 9 0\n", 2 * module.LEAST),  # nothing is left
        (1 << 30, None, 1 << 30),  # not Linux
        (-1, "65536 9 9 9 0 9 0\n", 1 << 40),  # no limit
    ],
)
def test_a_share_of_the_address_space(most, pages, expected, tmp_path, monkeypatch):
    """As `ulimit -v` limits it."""
    a_machine(monkeypatch, tmp_path, 1 << 40, None, {})
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (most, -1))
    monkeypatch.setattr(resource, "getpagesize", lambda: 4096)
    if pages is not None:
        (tmp_path / "proc/self/statm").write_text(pages)
    assert ts.get_memory_limit() == int(0.6 * expected)


def test_limits_of_control_groups_are_read_once_a_second(tmp_path, monkeypatch):
    a_machine(monkeypatch, tmp_path, 10_000, "0::/\n", {"memory.max": "5000\n"})
    now = 100.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    assert ts.get_memory_limit() == 3000
    (tmp_path / "groups/memory.max").write_text("2000\n")
    now = 100.9
    assert ts.get_memory_limit() == 3000
    now = 101.1
    assert ts.get_memory_limit() == 1200
    ts.set_memory_limit("2GB")  # one that is set holds at once
    assert ts.get_memory_limit() == 2_000_000_000


def test_this_machine():
    assert 1 << 28 < ts.get_memory_limit() < 1 << 50


def test_tasks_share_the_memory_and_results_do_not():
    ts.set_memory_limit("2GB")
    whole = module.working_memory()
    with module.memory_of_task(500_000_000):
        of_task = module.working_memory()
        assert module.explicit_memory_limit() == 2_000_000_000
        with ThreadPoolExecutor(1) as other:  # another task
            assert other.submit(module.working_memory).result() == whole
    assert 250_000_000 < of_task < 500_000_000
    with module.memory_of_task(4_000_000_000):
        assert module.working_memory() == whole
    with module.memory_of_task(1):  # never less than what a merge needs
        assert module.working_memory() == module.LEAST * 3 // 8
    assert module.working_memory() == whole
