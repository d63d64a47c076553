"""MkDocs hooks: pages made at build time, links out of docs/, formulas without scripts.

The pages under docs/ are read on a git host too, where a link may lead to any file of the
repository. On the site, such a link leads to a page that shows the file.
"""

import argparse
import ast
import html
import json
import posixpath
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

import cmemd
from cmemd.cli.main import parser as command_line

__all__ = [
    "api_page",
    "commands_page",
    "notebook_page",
    "on_files",
    "on_page_markdown",
    "with_formulas",
    "with_links",
]

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = "docs"
SHOWN = "repository"  # the site's folder of files that lie outside of docs/

_FENCE = re.compile(r"^(```.*?^```)$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_LANGUAGES = {".py": "python", ".yml": "yaml", ".json": "json", ".mjs": "javascript", ".cpp": "cpp"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are made at build time."""

    def add(uri: str, text: str) -> None:
        if old := files.get_file_from_path(uri):
            files.remove(old)
        shown = uri.startswith(f"{SHOWN}/")
        kept = InclusionLevel.NOT_IN_NAV if shown else InclusionLevel.UNDEFINED
        files.append(File.generated(config, uri, content=text, inclusion=kept))

    waiting = []
    for file in list(files):
        if file.src_uri.endswith(".md"):
            waiting.append((f"{DOCS}/{file.src_uri}", file.content_string))
        elif file.src_uri.endswith(".ipynb"):
            files.remove(file)
            text = notebook_page(json.loads(file.content_string))
            waiting.append((f"{DOCS}/{file.src_uri}", text))
            add(site_uri(f"{DOCS}/{file.src_uri}"), text)
    add("commands.md", commands_page())
    add("api.md", api_page())
    seen = {path for path, _ in waiting}
    while waiting:
        for target in _targets(*waiting.pop()):
            if target in seen or target.startswith(f"{DOCS}/"):
                continue
            seen.add(target)
            text = _shown(target)
            add(site_uri(target), text)
            if not target.endswith(".py"):
                waiting.append((target, text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to the site's own pages, and write formulas as MathML."""
    uri = page.file.src_uri
    origin = uri.removeprefix(f"{SHOWN}/") if uri.startswith(f"{SHOWN}/") else f"{DOCS}/{uri}"
    return with_formulas(with_links(markdown, _original(origin)))


def site_uri(path: str) -> str:
    """Return the site's source address of a file or folder of the repository."""
    if path.startswith(f"{DOCS}/"):
        return re.sub(r"\.ipynb$", ".md", path.removeprefix(f"{DOCS}/"))
    return f"{SHOWN}/{path}" if path.endswith(".md") else f"{SHOWN}/{path}.md"


def with_links(markdown: str, path: str) -> str:
    """Return a page's text with its relative links led to the site's pages.

    Args:
        markdown: the text.
        path: of the page, from the repository's folder.
    """

    def led(link: re.Match) -> str:
        target = _target(link[1], path)
        if target is None:
            return link[1]
        _, mark, anchor = link[1].partition("#")
        here = posixpath.dirname(site_uri(path)) or "."
        return posixpath.relpath(site_uri(target), here) + mark + anchor

    return _outside_fences(markdown, lambda text: _LINK.sub(led, text))


def with_formulas(markdown: str) -> str:
    """Return a page's text with its blocks of language "math" as MathML."""

    def formula(block: re.Match) -> str:
        return f'<div class="formula">{convert(block[1].strip(), display="block")}</div>'

    return re.sub(r"^```math\n(.*?)^```$", formula, markdown, flags=re.DOTALL | re.MULTILINE)


def commands_page() -> str:
    """Return the reference of all commands, from the parsers that read their arguments."""
    lines = ["# Commands", ""]
    for name, parser in _commands(command_line()):
        depth = "#" * (2 + (" " in name.removeprefix("cmemd ")))
        parser.formatter_class = partial(argparse.HelpFormatter, width=80)
        usage = parser.format_usage().removeprefix("usage: ")
        lines += [f"{depth} {name}", "", _sentence(parser.description or ""), ""]
        lines += ["```text", usage.rstrip(), "```", ""]
        rows = [_row(action, parser) for action in parser._actions if _is_told(action)]
        if rows:
            lines += ["| argument | what it does |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def api_page() -> str:
    """Return the reference of the public names, a section for each room of the package."""
    rooms: dict[str, list[str]] = {}
    for name, module in cmemd._PUBLIC.items():
        rooms.setdefault(module.split(".")[1], []).append(f"{_home(module, name)}.{name}")
    lines = ["# Python", "", "`from cmemd import NAME` gives each of these.", ""]
    for room, names in rooms.items():
        lines += [f"## {room}", ""]
        for name in names:
            lines += [f"::: {name}", ""]
    return "\n".join(lines)


def notebook_page(notebook: dict) -> str:
    """Return a notebook as Markdown: its text, its code and the text that the code printed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if picture := data.get("image/jpeg", "").strip():
                parts.append(f"![What the cell drew](data:image/jpeg;base64,{picture})")
            elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def _original(path: str) -> str:
    """Return the repository's path of a page: without the ``.md`` that a shown file gets."""
    if (REPOSITORY / path).exists():
        return path
    notebook = re.sub(r"\.md$", ".ipynb", path)
    return notebook if (REPOSITORY / notebook).exists() else path.removesuffix(".md")


def _outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    pieces = _FENCE.split(markdown)
    return "".join(p if p.startswith("```") else change(p) for p in pieces)


def _target(link: str, path: str) -> str | None:
    """Return the repository's path of what a page's link leads to; None for other links."""
    relative = link.partition("#")[0]
    if not relative or re.match(r"[a-z]+:", link):
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), relative))
    return target if (REPOSITORY / target).exists() else None


def _targets(path: str, markdown: str) -> list[str]:
    found = []
    _outside_fences(
        markdown,
        lambda text: found.extend(_target(link, path) for link in _LINK.findall(text)) or text,
    )
    return [target for target in found if target is not None]


def _shown(path: str) -> str:
    """Return the page that shows a file or a folder of the repository."""
    place = REPOSITORY / path
    if place.suffix == ".md":
        return place.read_text(encoding="utf-8")
    head = f"---\ntitle: {path}\nsearch:\n  exclude: true\n---\n\n# `{path}`\n\n"
    if place.is_dir():
        # Links of the page start at the folder that holds the folder.
        files = sorted(place.glob("*.py"))
        rows = [f"| [{f.name}]({place.name}/{f.name}) | {_summary(f)} |" for f in files]
        return head + "\n".join(["| file | what it does |", "|---|---|", *rows, ""])
    text = place.read_text(encoding="utf-8")
    return f"{head}``````{_LANGUAGES.get(place.suffix, 'text')}\n{text}\n``````\n"


def _summary(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return html.escape(text.split("\n\n")[0].replace("\n", " ")).replace("|", "\\|")


def _home(module: str, name: str) -> str:
    """Return the module that defines a name which a package passes on."""
    return getattr(getattr(cmemd, name), "__module__", module)


def _commands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield name and parser of each command and of the commands below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {choice.dest: choice.help for choice in action._choices_actions}
            for name, command in action.choices.items():
                command.description = command.description or told.get(name)
                yield command.prog, command
                yield from _commands(command)


def _is_told(action: argparse.Action) -> bool:
    passes = isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
    return not passes and action.help is not argparse.SUPPRESS


def _row(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    """Return a table's row of an argument."""
    value = (
        ""
        if action.nargs == 0
        else parser._get_formatter()._format_args(
            action, (action.dest.upper() if action.option_strings else action.dest)
        )
    )
    if action.option_strings:
        names = ", ".join(f"{option} {value}".strip() for option in action.option_strings)
    else:
        names = value
    text = (action.help or "") % (vars(action) | {"prog": parser.prog})
    if action.required and action.option_strings:
        text = f"{text} (required)"
    text = html.escape(" ".join(text.split()), quote=False)
    return "| `{}` | {} |".format(*(cell.replace("|", "\\|") for cell in (names, text)))


def _sentence(text: str) -> str:
    return html.escape(text[:1].upper() + text[1:].rstrip("."), quote=False) + "."
