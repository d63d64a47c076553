"""What holds for every module of the package: its names, its errors, its docstrings."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import cmemd

PACKAGE = Path(cmemd.__file__).parent
MODULES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}
# Subclasses of InputError are raised as it is.
BAD_INPUT = {"InputError", "UnusableImageError"}
# Where an error takes over a whole message, "expected X, got Y: remedy", and why.
WHOLE_MESSAGES = {
    "inference/preprocess.py": "the same error, in a class that callers can tell apart",
    "evaluation/ranked_gallery.py": "adds what only this caller knows: the picture can be left out",
    "gallery/on_ray.py": "the same error, which a worker on another machine met",
}
# A docstring that opens with one of these says what something is, not what it does.
NO_VERBS = {"A", "An", "The", "This", "It", "What", "Whether", "How", "Where", "If", "For", "Of"}
NO_VERBS |= {"In", "On", "As", "Between", "Without", "With", "All", "Each", "Every"}


def module_name(path: str) -> str:
    return ".".join(("cmemd", *Path(path).with_suffix("").parts)).removesuffix(".__init__")


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Functions, and methods of classes, that are neither private nor properties."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in [*tree.body, *(n for c in classes if c.name[0] != "_" for n in c.body)]:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            decorators = {ast.unparse(d).split(".")[-1] for d in node.decorator_list}
            if not decorators & {"property", "cached_property"}:
                yield node


def docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def called(node: ast.Call) -> str:
    return ast.unparse(node.func).split(".")[-1]


def imported(tree: ast.Module) -> set[str]:
    """Modules that a module imports anywhere."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def test_every_error_names_what_was_expected_what_was_found_and_the_remedy():
    for path, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node) in BAD_INPUT:
                given = len(node.args) + len(node.keywords)
                allowed = path in WHOLE_MESSAGES and "error" in ast.unparse(node)
                assert given == 3 or allowed, f"{path}:{node.lineno}: {ast.unparse(node)}"


def test_these_are_all_errors_of_bad_input():
    for path, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name not in BAD_INPUT:
                bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
                assert not bases & BAD_INPUT, f"{path}: {node.name}"


def test_every_module_lists_its_public_names_and_has_them():
    for path in MODULES.keys() - {"__main__.py"}:
        module = importlib.import_module(module_name(path))
        names = module.__all__
        assert sorted(set(names)) == sorted(names), path
        for name in names:
            assert hasattr(module, name), f"{path}: {name}"


def test_only_modules_that_face_fastreid_import_its_adaptations():
    for path in MODULES.keys() - {"compat.py", "plugin.py"}:
        modules = imported(MODULES[path])
        if "cmemd.compat" in modules:
            assert any(m.split(".")[0] == "fastreid" for m in modules), path


def test_docstrings_of_public_functions_open_with_a_verb_in_the_imperative():
    for path, tree in MODULES.items():
        for node in public_functions(tree):
            text = ast.get_docstring(node)
            if text is None:  # ruff says where one must be
                continue
            first = re.split(r"\W", text, maxsplit=1)[0]
            imperative = first[:1].isupper() and not first.endswith("s")
            good = imperative and first not in NO_VERBS
            assert good, f"{path}:{node.lineno} {node.name}: {text.splitlines()[0]}"


def test_docstrings_state_the_condition_of_an_error_as_a_fact():
    """As "the file is missing", not "if the file is missing" or "for a missing file"."""
    for path, tree in MODULES.items():
        for text in docstrings(tree):
            for entry in re.findall(r"^ +\w+(?:Error|Stopped): (.+)", text, re.MULTILINE):
                assert not re.match(r"(for|if|unless|when|where) ", entry), f"{path}: {entry}"


def test_no_tensor_is_compared_with_a_member_of_an_enumeration():
    """Compiled, `tensor == member` is False throughout within a conjunction; int(member) is not."""
    tensors = ("data/grouping.py", "losses/", "modeling/", "export/wrapper.py")
    for path, tree in MODULES.items():
        if not path.startswith(tensors):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
                members = [x for x in sides if re.fullmatch(r"modality|Modality\.\w+", x)]
                assert not members, f"{path}:{node.lineno}: {ast.unparse(node)}: use int(...)"
