"""What mypy checks, and what type checkers see of names that are loaded late."""

import ast
import re
from pathlib import Path

import pytest

import cmemd

PACKAGE = Path(cmemd.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
# Ignoring an error takes its code and, after it, the reason.
REASONED = re.compile(r"type: ignore\[[a-z-]+\]  # \S")


def test_the_whole_package_is_checked_strictly_and_its_public_modules_most():
    tomllib = pytest.importorskip("tomllib", reason="Python reads TOML from 3.11 on")
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert found["strict"] is True
    assert [ROOT / name for name in found["files"]] == [PACKAGE]
    relaxed, strictest = found["overrides"]
    assert relaxed == {"module": "cmemd.*", "warn_return_any": False}
    assert strictest.pop("warn_return_any") is True
    assert strictest == {"module": sorted({"cmemd", *cmemd._PUBLIC.values()})}


def test_type_checkers_see_every_public_name_that_is_loaded_late():
    found = set()
    for path in sorted(PACKAGE.rglob("__init__.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not any(isinstance(n, ast.FunctionDef) and n.name == "__getattr__" for n in tree.body):
            continue
        package = ".".join(("cmemd", *path.parent.relative_to(PACKAGE).parts))
        module = __import__(package, fromlist=["__all__"])
        seen = {
            (alias.name, alias.asname)
            for node in tree.body
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for statement in node.body
            if isinstance(statement, ast.ImportFrom)
            for alias in statement.names
        }
        # "import X as X" passes a name on; a plain import does not.
        late = {name for name in module.__all__ if name not in vars(module)}
        assert seen == {(name, name) for name in late}, package
        found.add(package)
    assert {"cmemd", "cmemd.inference", "cmemd.engine"} <= found


def test_each_type_error_that_is_ignored_is_named_and_explained():
    lines = [
        (path.relative_to(PACKAGE), line)
        for path in sorted(PACKAGE.rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "type: ignore" in line
    ]
    assert lines
    assert [line for line in lines if not REASONED.search(line[1])] == []
