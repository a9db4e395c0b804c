"""Arrays that kernels make are not freed while their addresses are in use."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tensorstate_gpu import cpu_fallback

PROGRAM = """
import numpy as np
import tensorstate_gpu as ts

maps = np.random.default_rng(0).standard_normal((16, 8, 224, 224)).astype(np.float32)
ts.set_num_threads(1)
rows = ts.compress_states(maps, neuron_axis=1)
fires = (maps > 0).transpose(0, 2, 3, 1).reshape(-1, 8)
np.testing.assert_array_equal(rows, np.packbits(fires, axis=1, bitorder="little"))
ts.set_num_threads(4)
for _ in range(20):
    np.testing.assert_array_equal(ts.compress_states(maps, neuron_axis=1), rows)
"""


# Of glibc: all threads take memory from one arena; what is freed can no longer be used.
@pytest.mark.parametrize("malloc", ["MALLOC_ARENA_MAX=1", "MALLOC_MMAP_THRESHOLD_=65536"])
def test_threads_do_not_get_the_memory_of_others(malloc):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **dict([malloc.split("=")])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def kernels():
    for file in sorted(Path(cpu_fallback.__file__).parent.glob("*.py")):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef):
                names = {each.id for each in function.decorator_list if isinstance(each, ast.Name)}
                if names & {"kernel", "inlined"}:
                    yield f"{file.name}: {function.name}", function


def arguments_of_calls(function, name):
    calls = [each for each in ast.walk(function) if isinstance(each, ast.Call)]
    return {ast.unparse(each.args[0]) for each in calls if ast.unparse(each.func) == name}


def test_what_a_kernel_makes_and_takes_the_address_of_is_kept():
    made = {}
    for place, function in kernels():
        own = arguments_of_calls(function, "address_of") - {each.arg for each in function.args.args}
        made.update({(place, name): name in arguments_of_calls(function, "keep") for name in own})
    assert made
    assert all(made.values()), made
