"""The command line as a whole: every command exists, explains itself, and loads only when
called.
"""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest

from kfqn_ref.cli import COMMANDS

from .command import kfqn, words


def test_help_lists_every_command_with_its_sentence():
    result = kfqn("--help")
    assert result.exit_code == 0
    for name, (_, sentence) in COMMANDS.items():
        assert name in result.output
        assert sentence in words(result)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_exists_and_its_sentence_is_its_docstring_s_first(name):
    target, sentence = COMMANDS[name]
    module, function = target.split(":")
    documentation = getattr(import_module(f"kfqn_ref.{module}"), function).__doc__
    assert documentation.strip().splitlines()[0] == sentence
    result = kfqn(name, "--help")
    assert result.exit_code == 0, result.output
    assert sentence in words(result)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_of_any_command_is_exit_code_2(name):
    result = kfqn(name, "--no-such-option")
    assert result.exit_code == 2
    assert "--no-such-option" in result.output


def test_unknown_and_missing_commands_are_exit_code_2():
    result = kfqn("vrify")
    assert result.exit_code == 2
    assert "No such command 'vrify'" in words(result)
    result = kfqn()
    assert result.exit_code == 2
    assert "Usage" in result.output


def test_the_version_is_the_installed_one():
    assert kfqn("--version").output == f"kfqn_ref {version('kfqn_ref')}\n"


def test_python_m_is_the_same_command_and_help_imports_nothing_heavy():
    script = (
        "import runpy, sys; sys.argv = ['kfqn_ref', '--help']\n"
        "try: runpy.run_module('kfqn_ref', run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'matplotlib', 'sklearn', 'hypothesis'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env={"COLUMNS": "200"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: kfqn [OPTIONS] COMMAND" in done.stdout
    for name in COMMANDS:
        assert name in done.stdout


def test_a_command_needs_no_home_no_cache_and_no_git(tmp_path):
    """Nobody can make a folder below /dev/null, not even root."""
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"), "/dev/null/x")
    code = "from kfqn_ref.__main__ import main; main()"
    options = ("--epochs", "1", "--train-size", "200", "--out", str(tmp_path / "run"))
    done = subprocess.run(
        [sys.executable, "-c", code, "train", *options],
        cwd=tmp_path,
        env={**nowhere, "PATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    names = {"checkpoint.pt", "metrics.jsonl", "curves.png"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names
