"""Find and read a configuration file with its bases: every key, its value and where it stands."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cmemd.errors import InputError

__all__ = ["BASE", "Entry", "config_names", "find_config", "read_config_file"]

BASE = "_BASE_"  # fast-reid's key: the file whose keys come first
_MERGE = "tag:yaml.org,2002:merge"
_DEEPEST = 20  # levels; an alias that holds itself has no end
# A wheel holds the configurations; a checkout has them beside the package.
_PACKAGED = Path(__file__).with_name("_configs") / "projects/CMEMD/configs"
_FOLDER = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1] / "configs"
_NAME = re.compile(r"[\w-]+(/[\w-]+)?")  # as in demo and ablations/uniform


class Entry(NamedTuple):
    """One key of a file.

    Attributes:
        key: as in "SOLVER.BASE_LR".
        value: as yaml reads it.
        place: file and line, as in "sysu.yml, line 7".
    """

    key: str
    value: Any
    place: str


def config_names() -> list[str]:
    """Return the names of the configurations that come with the package and can be run."""
    names = (path.relative_to(_FOLDER).with_suffix("") for path in _FOLDER.rglob("*.yml"))
    return sorted(str(name) for name in names if not name.name.startswith("Base-"))


def find_config(config: str | os.PathLike[str]) -> str:
    """Return the path of a configuration file.

    Args:
        config: a path; or, if no such file exists, the name of a configuration that comes with the
            package, as in "demo"; "" stays as it is.

    Raises:
        InputError: it is neither.
    """
    if not config or Path(config).is_file():
        return str(config)
    named = _FOLDER / f"{config}.yml"
    if _NAME.fullmatch(str(config)) and named.is_file():
        return str(named)
    shown = ", ".join(name for name in config_names() if "/" not in name)
    raise InputError(
        f"a configuration file at {config}",
        "no file",
        f"--config-file names a yaml, or one that comes with the package ({shown})",
    )


def read_config_file(path: str | os.PathLike[str]) -> list[Entry]:
    """Return the keys of a yaml: those of its ``_BASE_`` first, then its own.

    Args:
        path: the file, in UTF-8. A relative ``_BASE_`` starts at the folder of the file that has
            it.

    Raises:
        InputError: names file and line of what cannot be read: a missing file, another encoding, a
            tab, other bad yaml, a key that stands twice, or bases in a circle.
    """
    return _read(Path(path), f"a configuration file at {path}", "--config-file names a yaml", ())


def _read(path: Path, what: str, remedy: str, above: tuple[Path, ...]) -> list[Entry]:
    """Read a file that the files ``above`` inherit from."""
    if path.resolve() in above:
        circle = " -> ".join(file.name for file in (*above, path))
        raise InputError(f"a {BASE} outside the file's own bases", f"a circle, {circle}", remedy)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"UTF-8 text in {path}",
            f"another encoding, line {line}",
            "save the file as UTF-8",
        ) from None
    except OSError as error:
        raise InputError(what, error.strerror, remedy) from None
    own, base = [], []
    for entry in _entries(text, path):
        if entry.key != BASE:
            own.append(entry)
            continue
        if not isinstance(entry.value, str) or not entry.value:
            raise InputError(
                f"the path of a yaml for {BASE} in {entry.place}",
                repr(entry.value),
                "name one file, relative to this one",
            )
        target = path.parent / Path(entry.value).expanduser()
        what = f"the {BASE} of {entry.place} at {target}"
        base = _read(target, what, f"correct {BASE}", (*above, path.resolve()))
    return [*base, *own]


def _entries(text: str, path: Path) -> list[Entry]:
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:  # an empty file
            return []
        if not isinstance(node, yaml.MappingNode):
            raise InputError(
                f"keys and values in {path}, line {_line(node)}",
                f"a {'sequence' if isinstance(node, yaml.SequenceNode) else 'scalar'}",
                "write KEY: VALUE",
            )
        entries = list(_flat(loader, node, path, "", 0))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"yaml text in {path}, line {line}",
            f"the character {chr(error.character)!a}",
            "remove it",
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _bad_yaml(error, text, path) from None
    places: dict[str, str] = {}
    for entry in entries:
        if entry.key in places:
            raise _twice(entry.key, places[entry.key], entry.place)
        places[entry.key] = entry.place
    return entries


def _bad_yaml(error: Exception, text: str, path: Path) -> InputError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or error
    if mark is None:
        return InputError(f"yaml in {path}", " ".join(str(problem).split()), "correct the file")
    place = f"{path}, line {mark.line + 1}"
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return InputError(f"yaml in {place}", "a tab", "indent with spaces")
    return InputError(f"yaml in {place}", " ".join(str(problem).split()), "correct the line")


def _flat(
    loader: yaml.SafeLoader, node: yaml.MappingNode, path: Path, prefix: str, depth: int
) -> Iterator[Entry]:
    """Yield the keys of a mapping; a mapping below it is a group of keys."""
    if depth > _DEEPEST:
        raise InputError(
            f"at most {_DEEPEST} levels of keys in {path}", "more", "remove the alias of itself"
        )
    seen: dict[str, str] = {}
    for name, _ in node.value:
        place = f"{path}, line {_line(name)}"
        if name.tag == _MERGE:
            continue
        if not isinstance(name, yaml.ScalarNode):
            raise InputError(f"a name before the colon in {place}", f"a {name.id}", "write a key")
        if name.value in seen:
            raise _twice(f"{prefix}{name.value}", seen[name.value], place)
        seen[name.value] = place
    merged = any(name.tag == _MERGE for name, _ in node.value)
    if merged:
        loader.flatten_mapping(node)
        node.value = list({name.value: (name, value) for name, value in node.value}.values())
    for name, value in node.value:
        key = f"{prefix}{name.value}"
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _flat(loader, value, path, f"{key}.", depth + 1)
        else:
            content = loader.construct_object(value, deep=True)
            yield Entry(key, content, f"{path}, line {_line(name)}")


def _twice(key: str, first: str, second: str) -> InputError:
    return InputError(
        f"{key} once in a file", f"it again in {second}, after {first}", "remove one of the two"
    )


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
