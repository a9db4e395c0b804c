"""Runs the command `tensorstate` in this process."""

from tensorstate_gpu._cli.main import main


def ran(capsys, *arguments):
    """The exit code, stdout and stderr of a command."""
    code = main([*map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


def refused(capsys, *arguments):
    """The one line on stderr of a command that the user got wrong."""
    code, out, errors = ran(capsys, *arguments)
    assert (code, out) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith("tensorstate: ")
    return line
