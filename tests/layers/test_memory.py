"""Counts only: memory for the distinct states, however many instances come."""

import subprocess
import sys
import textwrap

import pytest

from tests.support.samples import thinned

KINDS = [(64, 1000), (64, 1_000_000), (512, 500_000)]
PROGRAM = """
    import resource, sys
    import numpy as np
    import tensorstate_gpu as ts

    def peak():
        try:  # ru_maxrss starts with the parent's on Linux; VmHWM is this program's own
            lines = open("/proc/self/status").read().splitlines()
            return 1024 * next(int(l.split()[1]) for l in lines if l.startswith("VmHWM"))
        except OSError:
            scale = 1 if sys.platform == "darwin" else 1024
            return scale * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    neurons, distinct = int(sys.argv[1]), int(sys.argv[2])
    width = neurons // 8
    rng = np.random.default_rng(0)
    table = rng.integers(0, 256, (distinct, width), dtype=np.uint8)
    point = ts.CapturePoint("layer", keep="counts")
    point.declare(neurons)
    point.append(table[:1000], 1000)
    point.histogram()  # compiles
    before = peak()
    for _ in range(100):
        batch = table[rng.integers(0, distinct, 100_000)]
        point.append(batch, 100_000)
    counts = point.histogram()
    assert point.instance_count == counts.total == 10_001_000
    print(peak() - before, len(counts) * width)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("neurons", "distinct"), thinned(KINDS, KINDS[:1]))
def test_ten_million_instances(neurons, distinct):
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(neurons), str(distinct)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    growth, states = map(int, done.stdout.split())
    assert growth <= 3 * states + (200 << 20)
