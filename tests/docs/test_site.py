"""The documentation site: pages made at build time, links out of docs/, formulas."""

import argparse
import re
import runpy
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.docs.test_pages import text_of

import cmemd
from cmemd.cli import main as command_line

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
HOOKS = runpy.run_path(str(REPOSITORY / "docs/site/hooks.py"))


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Every option of a parser and of the commands below it, but for help."""
    found = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= options_of(command)
        elif action.help != argparse.SUPPRESS:
            found |= set(action.option_strings)
    return found - {"-h", "--help", "--version"}


def test_the_command_reference_has_every_command_and_every_option():
    page = HOOKS["commands_page"]()
    headings = set(re.findall(r"^## cmemd (\w+)$", page, re.MULTILINE))
    assert headings == set(command_line.COMMANDS)
    cells = "\n".join(re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE))
    assert set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", cells)) == options_of(command_line.parser())


def test_every_row_of_the_command_reference_has_two_cells():
    """A bar within a cell is escaped, also within code."""
    for row in re.findall(r"^\|.*$", HOOKS["commands_page"](), re.MULTILINE):
        assert len(re.findall(r"(?<!\\)\|", row)) == 3, row


def test_the_python_reference_has_every_public_name():
    names = re.findall(r"^::: (\S+)$", HOOKS["api_page"](), re.MULTILINE)
    assert sorted(name.rpartition(".")[2] for name in names) == sorted(cmemd._PUBLIC)


def test_a_link_leads_from_a_page_to_the_sites_page_of_its_target():
    source = "projects/CMEMD/cmemd/losses/cm_emd.py"
    cases = {
        # page, link in it -> link on the site
        ("docs/method.md", "transport.md#time"): "transport.md#time",
        ("docs/method.md", f"../{source}"): f"repository/{source}.md",
        ("docs/deploy.md", "../MODEL_ZOO.md"): "repository/MODEL_ZOO.md",
        ("docs/demo.md", "notebooks/loss_in_your_loop.ipynb"): "notebooks/loss_in_your_loop.md",
        ("docs/notebooks/loss_in_your_loop.ipynb", "../method.md"): "../method.md",
        ("README.md", "docs/deploy.md"): "../deploy.md",
        ("projects/CMEMD/README.md", "cmemd/losses/cm_emd.py"): "cmemd/losses/cm_emd.py.md",
        ("docs/method.md", "https://example.org/a.md"): "https://example.org/a.md",
        ("docs/method.md", "#cm-dl"): "#cm-dl",
        ("docs/method.md", "no_such_page.md"): "no_such_page.md",
    }
    for (page, link), led in cases.items():
        assert HOOKS["with_links"](f"[a]({link})", page) == f"[a]({led})", (page, link)


def test_links_within_code_blocks_stay():
    text = "```\n[a](../README.md)\n```\n"
    assert HOOKS["with_links"](text, "docs/method.md") == text


def test_every_formula_of_the_pages_becomes_mathml():
    for page in (REPOSITORY / "docs").glob("*.md"):
        formulas = text_of(page).count("```math\n")
        made = HOOKS["with_formulas"](text_of(page))
        assert "```math" not in made
        assert made.count("<math ") == formulas, page
        for formula in re.findall(r"<math .*?</math>", made, re.DOTALL):
            assert "\\" not in formula, (page, formula)  # a command that was not understood


def test_a_notebooks_page_has_its_text_its_code_and_what_the_code_printed():
    cells = [
        {"cell_type": "markdown", "source": ["# A\n", "text"]},
        {
            "cell_type": "code",
            "source": "draw()",
            "outputs": [
                {"text": ["1\n", "2\n"]},
                {"data": {"image/jpeg": "QUJD\n", "text/plain": "<Figure>"}},
                {"data": {"text/plain": ["3"]}},
            ],
        },
    ]
    page = HOOKS["notebook_page"]({"cells": cells})
    blocks = ["# A\ntext", "```python\ndraw()\n```", "```text\n1\n2\n```"]
    blocks += ["![What the cell drew](data:image/jpeg;base64,QUJD)", "```text\n3\n```"]
    assert page == "\n\n".join(blocks) + "\n"


def test_every_page_of_docs_has_its_place_in_the_navigation():
    navigation = text_of(REPOSITORY / "mkdocs.yml").split("\nnav:")[1]
    placed = re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)
    docs = REPOSITORY / "docs"
    pages = {path.name for path in docs.glob("*.md")}
    pages |= {f"notebooks/{path.stem}.md" for path in (docs / "notebooks").glob("*.ipynb")}
    assert sorted(placed) == sorted(pages | {"commands.md", "api.md"})


def test_the_site_loads_no_script_font_or_style_from_the_network():
    for path in [REPOSITORY / "mkdocs.yml", *Path(REPOSITORY / "docs/scripts").iterdir()]:
        assert not re.search(r"https?://(?!www\.w3\.org)", text_of(path)), path
