"""Overrides may stand before, between and after flags."""

import itertools
import runpy

import pytest
from tests.cases import cases
from tests.conftest import REPOSITORY

from cmemd.cli import main as command_line
from cmemd.cli.overrides import OverridesParser


def parser() -> OverridesParser:
    arguments = OverridesParser(prog="p")
    arguments.add_argument("--config-file", default="")
    arguments.add_argument("--resume", action="store_true")
    arguments.add_argument("--num-gpus", type=int, default=1)
    arguments.add_argument("--seeds", nargs="+", type=int)
    arguments.add_argument("opts", nargs="*")
    return arguments


def test_the_order_of_flags_and_overrides_does_not_matter():
    parts = [
        ["--config-file", "a.yml"],
        ["--resume"],
        ["K", "-1"],
        ["L", "-1e-3"],
        ["--num-gpus=2"],
    ]
    for order in itertools.permutations(parts):
        args = parser().parse_args([word for part in order for word in part])
        assert (args.config_file, args.resume, args.num_gpus) == ("a.yml", True, 2), order
        pairs = set(zip(args.opts[::2], args.opts[1::2], strict=True))
        assert pairs == {("K", "-1"), ("L", "-1e-3")}, order


def test_a_flag_of_several_values_ends_at_the_next_flag():
    args = parser().parse_args(["--seeds", "1", "2", "--resume", "K", "V"])
    assert (args.seeds, args.opts) == ([1, 2], ["K", "V"])


def test_what_follows_two_dashes_is_an_override():
    args = parser().parse_args(["K", "V", "--", "L", "--resume"])
    assert (args.resume, args.opts) == (False, ["K", "V", "L", "--resume"])


@cases(
    ("words", "named"),
    [(["K", "V", "--resum"], None), (["K", "V", "--resumed"], "--resumed"), (["--n", "2"], None)],
)
def test_an_unknown_flag_is_named_and_an_abbreviation_works(words, named, capsys):
    if named is None:
        args = parser().parse_args(words)
        assert args.resume or args.num_gpus == 2
        return
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(words)
    assert named in capsys.readouterr().err


def test_tools_and_commands_take_flags_after_overrides(monkeypatch):
    tool = runpy.run_path(str(REPOSITORY / "tools/train_net.py"))["parser"]()
    args = tool.parse_args(["--config-file", "a.yml", "SOLVER.MAX_EPOCH", "2", "--resume"])
    assert (args.resume, args.opts) == (True, ["SOLVER.MAX_EPOCH", "2"])
    tool = runpy.run_path(str(REPOSITORY / "tools/export_model.py"))["parser"]()
    words = ["--config-file", "a.yml", "--weights", "w", "SEED", "1", "--output", "o", "--half"]
    args = tool.parse_args(words)
    assert (str(args.output), args.half, args.opts) == ("o", True, ["SEED", "1"])
    seen = []
    monkeypatch.setattr("cmemd.cli.ablate.run", lambda args: seen.append(args) or 0)
    words = ["ablate", "--output", "o", "SEED", "1", "--configs", "a.yml", "b.yml", "--quick"]
    assert command_line.main(words) == 0
    assert (seen[0].opts, seen[0].quick, len(seen[0].configs)) == (["SEED", "1"], True, 2)


def test_a_run_resumes_where_the_flag_comes_last(train_net, tmp_path):
    assert train_net()[0] == 0
    status, error = train_net("SEED", "0", "--resume")
    assert (status, error) == (0, "")
