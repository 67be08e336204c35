"""Imports of a plug-in's file: the files beside it are its own, wherever in its code they are imported.

The file is imported as a package of its folder, so that `from .helpers import x` works, and `import helpers` in it
and in its helpers means `.helpers` too. No other code sees these modules: two plug-ins may each have a
`helpers.py`, and a `json.py` beside one hides Python's from nobody else.
"""

import builtins
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

PREFIX = "segstudy_plugin_"
"""How names of these packages begin."""


def imported(name: str, file: Path) -> ModuleType:
    """Return a file's module, which is run the first time only.

    Parameters
    ----------
    name
        Its name, which begins with `PREFIX`.
    file
        The file.
    """
    if name in sys.modules:
        return sys.modules[name]
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    importlib.invalidate_caches()
    spec = importlib.util.spec_from_file_location(
        name, file, loader=_Loader(name, str(file)), submodule_search_locations=[str(file.parent)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for key in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
            del sys.modules[key]
        raise
    return module


class _Loader(SourceFileLoader):
    """Run a plug-in's module with an `import` that looks beside the plug-in first."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module."""
        package = module.__name__.partition(".")[0]

        def import_(
            name: str,
            globals: Any = None,
            locals: Any = None,
            fromlist: Sequence[str] | None = (),
            level: int = 0,
        ) -> ModuleType:
            if level or not _is_beside(package, name.partition(".")[0]):
                return builtins.__import__(name, globals, locals, fromlist, level)
            found = importlib.import_module(f"{package}.{name}")
            if not fromlist:  # `import a.b` binds a
                return sys.modules[f"{package}.{name.partition('.')[0]}"]
            return builtins.__import__(found.__name__, globals, locals, fromlist)

        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": import_}
        super().exec_module(module)


class _Finder:
    """Find the modules of plug-ins' packages."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module in a plug-in's package; None of any other."""
        if path is None or not name.startswith(PREFIX):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def _is_beside(package: str, name: str) -> bool:
    """Return whether a name is a module beside the plug-in; a folder without `__init__.py` gives way to what is installed."""
    if f"{package}.{name}" in sys.modules:
        return True
    spec = PathFinder.find_spec(name, sys.modules[package].__path__)
    if spec is None or spec.origin is not None:
        return spec is not None
    return name not in sys.modules and importlib.util.find_spec(name) is None
