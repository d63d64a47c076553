import argparse
import importlib
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import cmemd
from cmemd.cli import main as cli
from cmemd.errors import InputError, readable_errors


def test_help_lists_every_command_and_needs_neither_torch_nor_fastreid():
    code = (
        "import sys, runpy; sys.argv = ['cmemd', '--help']\n"
        "try: runpy.run_module('cmemd', run_name='__main__')\n"
        "except SystemExit: print({'torch', 'fastreid'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in cli.COMMANDS)
    assert done.stdout.endswith("set()\n")


def test_prints_its_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == cmemd.__version__


def test_bad_input_is_one_line_and_status_2(monkeypatch, capsys):
    def fail(args):
        raise InputError("expected this, got that: do so")

    monkeypatch.setattr("cmemd.cli.compare.run", fail)
    with pytest.raises(SystemExit) as end:
        cli.main(["compare", "x.json"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: expected this, got that: do so\n"


def test_a_defect_is_one_line_that_names_the_file_with_its_traceback(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for defect in (
        RuntimeError("ours\nof two lines"),
        ModuleNotFoundError("No module named 'cmemd.x'", name="cmemd.x"),
    ):

        def fail(args, defect=defect):
            raise defect

        monkeypatch.setattr("cmemd.cli.compare.run", fail)
        with pytest.raises(SystemExit, match="1"):
            cli.main(["compare", "x.json"])
        line = capsys.readouterr().err
        assert line.startswith(f"error: a defect of cmemd, {type(defect).__name__} in test_main.py")
        assert line.count("\n") == 1
        kept = Path(line.rsplit(" ", 1)[-1].strip())
        assert "Traceback" in kept.read_text()
        monkeypatch.setenv("CMEMD_DEBUG", "1")
        with pytest.raises(type(defect), match=str(defect)):
            cli.main(["compare", "x.json"])
        monkeypatch.delenv("CMEMD_DEBUG")


def test_a_run_keeps_the_traceback_in_its_log(monkeypatch, capsys, tmp_path):
    log = logging.StreamHandler((tmp_path / "log.txt").open("w"))
    logger = logging.getLogger("cmemd")
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(sys.stdout), log])
    with pytest.raises(SystemExit, match="1"), readable_errors():
        raise KeyError("ours")
    assert str(tmp_path / "log.txt") in capsys.readouterr().err
    assert "KeyError: 'ours'" in (tmp_path / "log.txt").read_text()


def test_an_error_from_a_loaders_worker_is_shown_without_its_traceback(monkeypatch, capsys):
    def fail(args):
        raise InputError("Caught InputError in worker 0.\nTraceback:\ncmemd.errors.InputError: bad")

    monkeypatch.setattr("cmemd.cli.compare.run", fail)
    with pytest.raises(SystemExit):
        cli.main(["compare", "x.json"])
    assert capsys.readouterr().err == "error: bad\n"


def test_a_missing_package_is_one_line_that_says_how_to_get_it(monkeypatch, capsys):
    def fail(args):
        raise ModuleNotFoundError("No module named 'cv2'", name="cv2")

    monkeypatch.setattr("cmemd.cli.compare.run", fail)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare", "x.json"])
    message = "error: cmemd compare needs cv2, which is not installed: pip install"
    assert capsys.readouterr().err.startswith(message)


def test_warnings_are_one_line(monkeypatch, capsys):
    def warn(args):
        warnings.warn("look out", stacklevel=1)
        return 0

    monkeypatch.setattr("cmemd.cli.compare.run", warn)
    assert cli.main(["compare", "x.json"]) == 0
    assert capsys.readouterr().err == "warning: look out\n"


def test_names_in_logs_cannot_act_on_a_terminal(caplog):
    odd = Path("a\x1b[31m\nb")
    with caplog.at_level("INFO", "cmemd"), readable_errors():
        logging.getLogger("cmemd").info("%s %s %d\n%s", odd, str(odd), 1, "a\ntable ±")
    (record,) = caplog.records
    assert record.getMessage() == "a\\x1b[31m\\nb a\\x1b[31m\nb 1\na\ntable ±"
    with readable_errors():  # a log that cannot be written costs no traceback
        assert not logging.raiseExceptions
    assert logging.raiseExceptions


def test_tables_cannot_act_on_a_terminal(monkeypatch, capsys):
    odd = "a\x1b[2J\r\udcff\n±\n"
    monkeypatch.setattr("cmemd.cli.compare.run", lambda args: sys.stdout.write(odd) and 0)
    assert cli.main(["compare", "x.json"]) == 0
    assert capsys.readouterr().out == "a\\x1b[2J\\r\\udcff\n±\n"


def test_an_output_stream_that_fails_is_one_line_or_none(tmp_path):
    """A full device, a missing stdout and one that knows no ±."""
    code = (
        "import sys, cmemd.cli.compare as command; from cmemd.cli.main import main\n"
        "command.run = lambda args: print('±') or 0\n"
        "sys.exit(main(['compare', 'x.json']))"
    )
    for redirection, status, out, err in (
        (">/dev/full", 1, "", "error: No space left on device: free some disk space"),
        (">&-", 0, "", ""),
        (">&- 2>&-", 0, "", ""),
        ("", 0, "\\xb1\n", ""),
    ):
        words = ["sh", "-c", f'"$0" -c "$1" {redirection}', sys.executable, code]
        ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(words, capture_output=True, text=True, env=ascii_only, check=False)
        assert (done.returncode, done.stdout) == (status, out), redirection
        assert done.stderr.startswith(err), redirection
        assert done.stderr.count("\n") == bool(err), redirection


def test_every_default_is_said_in_the_help():
    for name in cli.COMMANDS:
        parser = argparse.ArgumentParser()
        importlib.import_module(f"cmemd.cli.{name}").add_arguments(parser)
        for action in parser._actions:
            if action.default not in (None, False, [], float("-inf"), argparse.SUPPRESS):
                assert "default" in action.help, f"{name} {action.dest}"


def test_a_reader_that_stops_early_is_no_error():
    code = (
        "import sys, cmemd.cli.compare as command; from cmemd.cli.main import main\n"
        "command.run = lambda args: [print('line' * 1000) for _ in range(1000)] and 0\n"
        "sys.exit(main(['compare', 'x.json']))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
