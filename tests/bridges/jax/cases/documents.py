"""The code of the documents and of the docstrings that needs JAX."""

import re

from tests.support import bridge_doctests
from tests.support.pages import programs_of, run


@bridge_doctests.doctests_of("jax")
def test_doctests(name):
    bridge_doctests.check_doctests(name)


def test_the_code_of_the_page_on_keras_and_jax_runs(capsys):
    run(programs_of("docs/keras.md")[1])
    assert capsys.readouterr().out == "5\n"


def test_the_code_of_the_page_on_neurons_prints_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    programs = programs_of("docs/neurons.md")
    for program in programs:
        run(program)
    expected = re.findall(r"print.*?  # (.*)", "".join(programs))
    assert capsys.readouterr().out.splitlines() == expected
