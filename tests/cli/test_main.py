import subprocess
import sys
import warnings

import pytest

import cmemd
from cmemd.cli import main as cli
from cmemd.errors import InputError


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


def test_a_defect_keeps_its_traceback(monkeypatch):
    for defect in (
        RuntimeError("ours"),
        ModuleNotFoundError("No module named 'cmemd.x'", name="cmemd.x"),
    ):

        def fail(args, defect=defect):
            raise defect

        monkeypatch.setattr("cmemd.cli.compare.run", fail)
        with pytest.raises(type(defect), match=str(defect)):
            cli.main(["compare", "x.json"])


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
