"""Imports of TensorFlow and Keras without what nobody asks for: a public module of theirs gives each name at its first use.

Their public modules are pages of `from X import Y as Z` over the whole library, so that importing one function imports all: of
3,400 modules a render uses a third. Here such a page is read instead of executed, and a name on it imported when it is asked for
(`__getattr__`). A module with anything else in it is executed as ever. No network, no arrays.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

#: Packages whose pages are read. TensorFlow's own modules lie elsewhere, and register operations when they are executed.
#: Keras imports the sparse matrices of JAX, which import SciPy, to know them when it sees one.
_PACKAGES = ("tensorflow._api.", "keras.", "jax.experimental.sparse.")

#: Where a name comes from: a module, and a name in it or, for the module itself, None.
_Source = tuple[str, str | None]


def read_pages() -> None:
    """From now on, in this process; says nothing to modules that are imported already."""
    if not any(isinstance(finder, _PageFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PageFinder())


class _PageFinder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The packages of `_PACKAGES`, with a loader that reads them; None for all others."""
        if not f"{name}.".startswith(_PACKAGES):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.submodule_search_locations and isinstance(spec.loader, InspectLoader):
            spec.loader = _PageLoader(spec.loader)
        return spec


class _PageLoader(Loader):
    def __init__(self, real: InspectLoader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As ever."""
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Read the page, or execute what is no page."""
        name = module.__name__
        page = page_of(self._real.get_source(name) or "", name)
        module.__loader__ = self._real
        if module.__spec__ is not None:
            module.__spec__.loader = self._real
        if page is None:
            self._real.exec_module(module)
            return

        module.__dict__["__page__"] = page
        module.__class__ = _Page


class _Page(ModuleType):
    """A module that imports what it names when it is asked for it."""

    def __getattr__(self, asked: str) -> Any:
        page: dict[str, _Source] = self.__dict__["__page__"]
        if asked == "__all__":
            return [known for known in page if not known.startswith("_")]
        if asked not in page:
            raise AttributeError(f"module {self.__name__!r} has no attribute {asked!r}")
        self.__dict__[asked] = _fetch(*page[asked])
        return self.__dict__[asked]

    def __setattr__(self, name: str, value: Any) -> None:
        # A submodule, once imported, becomes an attribute: it must not take the place of a function of its name (keras' `rnn`).
        if isinstance(value, ModuleType):
            itself = value.__name__, None
            if self.__dict__["__page__"].get(name, itself) != itself:
                return
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *self.__dict__["__page__"]})


def page_of(source: str, name: str) -> dict[str, _Source] | None:
    """What a module imports under which name; None where it does anything else.

    Args:
        source: its text.
        name: the module's own: what it imports from itself are its submodules.
    """
    page: dict[str, _Source] = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.ImportFrom(module=str(origin), names=names, level=0) if all(each.name != "*" for each in names):
                for each in names:
                    known = each.asname or each.name
                    page[known] = (f"{origin}.{each.name}", None) if origin == name else (origin, each.name)
            case ast.Expr(value=ast.Constant()) | ast.Import(names=[ast.alias(name="sys")]):
                continue
            case _:
                return None
    return page or None


def _fetch(origin: str, name: str | None) -> Any:
    """As `from origin import name` does."""
    module = importlib.import_module(origin)
    if name is None:
        return module
    try:
        return getattr(module, name)
    except AttributeError:
        return importlib.import_module(f"{origin}.{name}")
