"""The pages, the help texts and the errors point to what exists, and the pages' code runs."""

import argparse
import ast
import importlib
import re
import runpy
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from tests.conftest import REPOSITORY

import cmemd
from cmemd.cli import main as command_line
from cmemd.evaluation.protocols import PROTOCOLS
from cmemd.losses.transport import sinkhorn_plan
from cmemd.moved import MOVED

PROJECT = REPOSITORY / "projects/CMEMD"
PAGES = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "datasets/README.md",
    PROJECT / "README.md",
]
SOURCES = sorted({*(PROJECT / "cmemd").rglob("*.py")} - {PROJECT / "cmemd/moved.py"})
CONFIGS = [*(REPOSITORY / "configs").glob("*.yml"), *(PROJECT / "configs").rglob("*.yml")]
# What docs/extending.md adds in a copy of the package; tests/docs/test_extending.py adds it.
EXTENDING = (REPOSITORY / "docs/extending.md").read_text(encoding="utf-8")
NEW_FILES = set(re.findall(r"^# (projects/\S+)$", EXTENDING, re.MULTILINE))
NEW_MODULES = tuple(path[15:-3].replace("/", ".") for path in NEW_FILES if path.endswith(".py"))
NEW_KEYS = set(re.findall(r"^\+ *cfg\.([A-Z_.]+)", EXTENDING, re.MULTILINE))
OTHERS = [*(REPOSITORY / "tools").glob("*.py"), *CONFIGS, REPOSITORY / "Makefile"]

LINK = re.compile(r"\]\(([^)\s]+)\)")
# A path below a folder of this repository, or a page. What commands make (logs/, datasets/) is not.
PATH = re.compile(
    r"(?<![\w/.$-])((?:docs|tools|projects|tests|configs|cmemd)/[\w./-]*\w|(?:datasets/)?\w{3,}\.md)\b"
)
NAME = re.compile(r"(?<![\w/.-])cmemd(?:\.[A-Za-z_]\w*)+")
IMPORT = re.compile(r"from (cmemd[\w.]*) import ([\w, ]+)")
# After environment variables, an interpreter or a launcher.
COMMAND = re.compile(r"(?:\S+=\S+ |\S*python |torchrun .*?(?= tools/) )*(cmemd|tools/\w+\.py) ")
KEY = re.compile(r"\b[A-Z][A-Z_]+(?:\.[A-Z_]+)+\b")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def where(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def fenced(text: str, *languages: str) -> list[str]:
    """The fenced blocks of a page that are marked with one of the languages."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [code for language, code in blocks if language in languages]


def expanded(text: str) -> str:
    """A page's text with ``$A`` and braces written out, as a shell does."""
    if definition := re.search(r"^A=(\S+)$", text, re.MULTILINE):
        text = text.replace("$A/", f"{definition[1]}/")
    return re.sub(
        r"(\S*/)\{([\w,]+)\}([\w.]*)",
        lambda m: " ".join(f"{m[1]}{one}{m[3]}" for one in m[2].split(",")),
        text,
    )


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def resolves(name: str) -> bool:
    """Whether a dotted name is a module under its own name, or an attribute of one."""
    if name.startswith(NEW_MODULES):
        return True
    parts = name.split(".")
    for depth in range(len(parts), 0, -1):
        module = ".".join(parts[:depth])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        if found.__name__ != module:
            return False
        for part in parts[depth:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


# ---- what the pages name


def test_every_link_of_the_pages_leads_somewhere():
    dead = []
    for page in PAGES:
        for target in LINK.findall(text_of(page)):
            if target.startswith(("http://", "https://")):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                dead.append((where(page), target))
    assert not dead


def test_every_path_in_pages_sources_and_configs_exists():
    dead = []
    for file in (*PAGES, *SOURCES, *OTHERS):
        for path in PATH.findall(expanded(text_of(file))):
            if path not in NEW_FILES and not any(
                (base / path).exists() for base in (REPOSITORY, PROJECT, file.parent)
            ):
                dead.append((where(file), path))
    assert not dead


def test_every_name_of_the_package_in_pages_and_sources_can_be_imported():
    unknown = []
    no_names = {"cmemd.model", "cmemd.sensor"}  # keys of a gallery's metadata
    old_names = {"CHANGELOG.md": set(MOVED)}  # the change log alone tells the old names
    for file in (*PAGES, *SOURCES, *OTHERS):
        text = text_of(file)
        names = set(NAME.findall(text))
        for module, imported in IMPORT.findall(text):
            names |= {f"{module}.{name.strip().split(' ')[0]}" for name in imported.split(",")}
        unknown += [
            (where(file), name)
            for name in names - no_names - old_names.get(where(file), set())
            if not resolves(name)
        ]
    assert not unknown


def test_every_key_in_the_pages_and_sources_is_one_of_the_configuration():
    def keys(node: dict, prefix: str = "") -> Iterator[str]:
        for name, value in node.items():
            yield prefix + name
            if isinstance(value, dict):
                yield from keys(value, f"{prefix}{name}.")

    known = set(keys(cmemd.load_config("")))
    tails = {".".join(key.split(".")[start:]) for key in known for start in range(key.count("."))}
    gone = {"MODEL.LOSSES.EMD"}  # of an earlier version, in the change log
    strange = [
        (where(file), key)
        for file in (*PAGES, *SOURCES, *OTHERS)
        for key in KEY.findall(text_of(file))
        if key not in known | tails | gone | NEW_KEYS
    ]
    assert not strange


def test_every_protocol_is_described_and_no_other():
    table = text_of(REPOSITORY / "docs/scoring.md").split("## Protocols")[1].split("\n\n")[1]
    assert re.findall(r"^\| `([^`]+)`", table, flags=re.MULTILINE) == list(PROTOCOLS)


def test_every_command_is_in_the_index_and_no_other():
    table = text_of(REPOSITORY / "docs/index.md").split("## All commands")[1].split("\n\n")[1]
    assert set(re.findall(r"^\| `cmemd (\w+)`", table, re.MULTILINE)) == set(command_line.COMMANDS)


# ---- the pages' commands


def command_lines() -> Iterator[tuple[Path, list[str]]]:
    """Page and words of each command of this project in a fenced block or a code span."""
    for page in PAGES:
        text = expanded(text_of(page))
        lines = "".join(fenced(text, "", "bash")).replace("\\\n", " ").splitlines()
        spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        for line in [*lines, *(" ".join(span.split()) for span in spans if " --" in span)]:
            if command := COMMAND.match(line):
                yield page, shlex.split(line[command.start(1) :], comments=True)


def test_the_commands_of_the_pages_have_arguments_that_exist(monkeypatch, capsys):
    for name in command_line.COMMANDS:
        monkeypatch.setattr(f"cmemd.cli.{name}.run", lambda args: 0)
    tools = {
        name: runpy.run_path(str(REPOSITORY / name))["parser"]()
        for name in ("tools/train_net.py", "tools/export_model.py")
    }
    whole = 0
    for page, (command, *words) in command_lines():
        # A span may show a part of a command only; its options have to exist all the same.
        options = {word for word in words if word.startswith("--")}
        if command == "cmemd":
            try:
                whole += command_line.main(words) == 0
            except SystemExit:
                assert "unrecognized" not in capsys.readouterr().err, (page, words)
                with pytest.raises(SystemExit):
                    command_line.main([*words[:1], "--help"])
                known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
                assert options <= known | {"--help"}, (page, words)
        elif "..." in words:
            assert options <= set(tools[command]._option_string_actions), (page, words)
        else:
            known = set(tools[command]._option_string_actions)
            assert options <= known, (page, words)
            if "--config-file" in options:
                tools[command].parse_args(words)
                whole += 1
    assert whole > 20


# ---- the places that help texts and errors send to


def help_texts() -> Iterator[tuple[str, str]]:
    """What names it and the text, of every option of every command."""
    parsers = {}
    for name in command_line.COMMANDS:
        parsers[f"cmemd {name}"] = parser = argparse.ArgumentParser()
        importlib.import_module(f"cmemd.cli.{name}").add_arguments(parser)
    for name in ("train_net", "export_model"):
        parsers[name] = runpy.run_path(str(REPOSITORY / f"tools/{name}.py"))["parser"]()
    for command, parser in parsers.items():
        for action in parser._actions:
            if action.help and action.option_strings:
                yield f"{command} {action.option_strings[-1]}", action.help


def errors() -> Iterator[tuple[str, str]]:
    """Place and literal text of every exception that the package makes."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(text_of(source))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error"):
                pieces = [
                    part.value
                    for part in ast.walk(node)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                ]
                yield f"{source.name}:{node.lineno}", " ".join(pieces)


def test_a_page_that_a_help_text_or_an_error_names_speaks_of_it():
    """The page holds the option; of an error, an option or a setting that the error names."""
    named = 0
    for place, text in (*help_texts(), *errors()):
        for page in re.findall(r"(?:docs|datasets|projects)/[\w./-]+\.md", text):
            words = re.findall(r"--[a-z][\w-]+|[A-Z]{2,}_[A-Z_]+", f"{place} {text}")
            content = text_of(REPOSITORY / page)
            assert not words or any(word in content for word in words), (place, page, words)
            named += 1
    assert named >= 2


# ---- the pages' Python and numbers


def test_no_paragraph_of_the_readme_is_longer_than_five_lines():
    text = re.sub(r"^```.*?^```", "", text_of(REPOSITORY / "README.md"), flags=re.DOTALL | re.M)
    text = re.sub(r"^\|.*$", "", text, flags=re.MULTILINE)
    paragraphs = re.split(r"\n\s*\n|\n(?=- )", text)
    assert max(len(paragraph.strip().splitlines()) for paragraph in paragraphs) <= 5


def test_five_lines_of_the_readme_train_any_network_with_cm_emd():
    code = fenced(text_of(REPOSITORY / "README.md"), "python")[1]
    assert len([line for line in code.splitlines() if line]) == 5
    torch.manual_seed(0)
    people, each = 3, 2
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    scope = {
        "network": network,
        "images": torch.rand(people * 2 * each, 3, 2, 2),
        "identity_loss": torch.zeros(()),
        "P": people,
        "K": each,
    }
    exec(code, scope)
    assert scope["cost"].shape == (people, each, each)
    by_hand = [min(c[0, 0] + c[1, 1], c[0, 1] + c[1, 0]) / 2 for c in scope["cost"]]
    torch.testing.assert_close(scope["loss"], 0.1 * torch.stack(by_hand).mean())
    scope["loss"].backward()
    assert network[1].weight.grad.abs().sum() > 0


def test_two_hundred_sinkhorn_iterations_are_as_close_as_docs_transport_says():
    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((4, 4), (4, 8), (8, 8)):
        cost = torch.rand(8, rows, columns, generator=generator, dtype=torch.float64)
        for epsilon in (0.1, 0.05, 0.02, 0.01):
            short, long = (
                (sinkhorn_plan(cost, epsilon, iterations=n) * cost).sum((1, 2)) for n in (200, 1500)
            )
            worst = ((short - long).abs() / cost.amax((1, 2))).max()
            assert worst < 4e-4, (rows, columns, epsilon)


# ---- the rooms


def test_each_room_imports_only_the_rooms_of_its_row():
    table = text_of(REPOSITORY / "CONTRIBUTING.md").split("## Rooms")[1]
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\| (yes|no) \|$", table, re.MULTILINE)
    folders = {source.parent for source in (PROJECT / "cmemd").glob("*/*.py")}
    assert {room for room, *_ in rows} == {folder.name for folder in folders}
    for room, others, fastreid in rows:
        allowed = {
            room,
            "config_file",
            "errors",
            "files",
            "paths",
            "version",
            *re.findall(r"`(\w+)`", others),
        }
        if others.strip() == "every room":
            allowed |= {row[0] for row in rows}
        if fastreid == "yes":
            allowed |= {"compat", "config", "plugin"}
        for source in (PROJECT / "cmemd" / room).rglob("*.py"):
            for module in imports_of(source):
                package, *rest = module.split(".")
                if package == "cmemd" and rest:
                    assert rest[0] in allowed, (where(source), module)
                if room == "evaluation" or "layouts" in source.parts:
                    assert package not in ("torch", "fastreid"), (where(source), module)


def imports_of(source: Path) -> Iterator[str]:
    """The modules that a file imports, also within functions."""
    for node in ast.walk(ast.parse(text_of(source))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
