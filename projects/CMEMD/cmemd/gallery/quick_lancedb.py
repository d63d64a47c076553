"""Import LanceDB without what takes most of that time and is never called here.

LanceDB 0.40 imports the package ``lance_namespace_urllib3_client``, which builds hundreds of
pydantic classes for a server: 0.6 of 0.8 s [measured]. At import, LanceDB only writes their names
into signatures. So that package becomes lazy here: a name stands for its class, and the file that
defines the class is loaded when a program calls the class, reads an attribute, tests an instance or
derives from it. End: when ``import lancedb`` no longer imports that package whole.

Before Python 3.12, LanceDB also compares the signature of each method with the one that it
overrides, a check for LanceDB's own developers: 0.1 s [measured]. From 3.12 on it does not. End:
with Python 3.11.
"""

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Union

__all__ = ["lancedb"]

_CLIENT = "lance_namespace_urllib3_client"
_WORD = re.compile(r"(?<!^)(?=[A-Z])")


def lancedb(part: str = "") -> ModuleType:
    """Return the package ``lancedb``, or a module of it: ``lancedb("expr")``."""
    if "lancedb" not in sys.modules and _CLIENT not in sys.modules:
        _make_lazy(_CLIENT)
        _make_lazy(f"{_CLIENT}.models")
        with _signatures_unchecked():
            importlib.import_module("lancedb")
    return importlib.import_module(f"lancedb.{part}" if part else "lancedb")


class _LazyPackage(ModuleType):
    """A package whose classes are loaded on first use."""

    _whole = False

    def __getattr__(self, name: str) -> object:
        if name[:1].isupper() and not self._whole:
            return _Class(self, name)
        return self._load(name)

    def _load(self, name: str) -> object:
        """Return what an ordinary import would give, from the file of that name if there is one."""
        if name.startswith("__") or self._whole:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with contextlib.suppress(ImportError, AttributeError):
            home = importlib.import_module(f"{self.__name__}.{_WORD.sub('_', name).lower()}")
            setattr(self, name, getattr(home, name))
        if name not in vars(self):
            self._whole = True
            assert self.__spec__ is not None, "_make_lazy"
            assert self.__spec__.loader is not None, "_make_lazy"
            self.__spec__.loader.exec_module(self)
        return getattr(self, name)


class _Class:
    """A class of a lazy package, loaded on first use."""

    def __init__(self, package: _LazyPackage, name: str) -> None:
        self._package, self._name = package, name

    def _class(self) -> Any:
        return vars(self._package).get(self._name) or self._package._load(self._name)

    def __getattr__(self, name: str) -> object:
        return getattr(self._class(), name)

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._class()(*args, **kwargs)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._class())

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return (self._class(),)

    def __or__(self, other: object) -> object:  # in signatures: a class | None
        return Union[self, other]  # noqa: UP007

    __ror__ = __or__


@contextlib.contextmanager
def _signatures_unchecked() -> Iterator[None]:
    """Make the package ``overrides`` do what Python 3.12's ``typing.override`` does: nothing."""
    if sys.version_info >= (3, 12) or importlib.util.find_spec("overrides") is None:
        yield
        return
    overrides: Any = importlib.import_module("overrides")
    before = {name: getattr(overrides, name) for name in ("override", "EnforceOverrides")}
    overrides.override, overrides.EnforceOverrides = lambda method: method, object
    try:
        yield
    finally:
        vars(overrides).update(before)


def _make_lazy(name: str) -> None:
    """Put a lazy package in the place of one that is not imported yet."""
    parent, _, short = name.rpartition(".")
    if parent and parent not in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:  # another version of LanceDB
        return
    package = _LazyPackage(name)
    package.__spec__, package.__loader__, package.__package__ = spec, spec.loader, name
    package.__file__, package.__path__ = spec.origin, spec.submodule_search_locations
    sys.modules[name] = package
    if parent:
        setattr(sys.modules[parent], short, package)
