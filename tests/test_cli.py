"""The ``dynamite`` command: sub commands, exit codes, errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys
import types

import pytest

import dynamite_widget
from dynamite_widget import cli
from dynamite_widget.errors import CheckpointError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """Return a function that installs a sub command ``boom`` that calls what it is given."""

    def install(action, extra: str | None = None) -> None:
        module = types.ModuleType("boom_command")
        module.__dict__["add_parser"] = lambda subparsers: subparsers.add_parser("boom")
        module.__dict__["run"] = action
        monkeypatch.setitem(sys.modules, "boom_command", module)
        monkeypatch.setitem(cli.COMMANDS, "boom", cli.Command("boom_command", "a test", extra))

    return install


def fail_with(error: BaseException):
    def action(args):
        raise error

    return action


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in cli.COMMANDS)])
def test_help_of_every_command(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 0
    assert "usage: dynamite" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert dynamite_widget.__version__ in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["explode"], ["info", "--nonsense"]])
def test_wrong_usage_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: dynamite" in capsys.readouterr().err


@pytest.mark.parametrize("result", [None, 0, 3])
def test_exit_code_is_that_of_the_command(command, result):
    command(lambda args: result)
    assert cli.main(["boom"]) == (result or 0)


def test_error_is_one_line(command, capsys):
    command(fail_with(CheckpointError("weights are missing:\n  fetch them")))
    assert cli.main(["boom"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "dynamite: weights are missing: fetch them\n"


@pytest.mark.parametrize("arguments", [["--debug", "boom"], ["boom", "--debug"]])
def test_debug_shows_the_traceback(command, arguments):
    command(fail_with(CheckpointError("weights are missing")))
    with pytest.raises(CheckpointError, match="missing"):
        cli.main(arguments)


def test_system_errors_name_the_file(command, capsys):
    command(fail_with(FileNotFoundError(2, "No such file or directory", "clicks.json")))
    assert cli.main(["boom"]) == 2
    assert "clicks.json" in capsys.readouterr().err


def test_missing_extra_is_named(command, capsys):
    command(fail_with(ModuleNotFoundError("No module named 'accelerate'")), extra="train")
    assert cli.main(["boom"]) == 2
    assert "dynamite-widget[train]" in capsys.readouterr().err


def test_programming_errors_keep_their_traceback(command):
    command(fail_with(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["boom"])


def test_interrupt(command, capsys):
    command(fail_with(KeyboardInterrupt()))
    assert cli.main(["boom"]) == 130
    assert capsys.readouterr().err == "dynamite: interrupted\n"


def test_info(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert dynamite_widget.__version__ in out
    assert "swin-tiny" in out
    assert "cpu" in out


def test_info_as_json(capsys):
    assert cli.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["version"] == dynamite_widget.__version__
    assert facts["libraries"]["torch"]
    assert "lite" in facts["presets"]
    assert facts["cache_dir"]


def test_help_imports_no_network():
    code = (
        "import sys\n"
        "from dynamite_widget import cli\n"
        "try:\n"
        "    cli.main(['--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "sys.exit(bool({'torch', 'numpy', 'timm'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in cli.COMMANDS)


def test_broken_pipe_is_silent():
    code = "import sys; from dynamite_widget.cli import main; sys.exit(main(['info', '--json']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        message = process.stderr.read()
    assert b"Traceback" not in message
