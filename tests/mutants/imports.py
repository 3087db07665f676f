"""Imports of our own packages that the runner makes once for all mutants of what comes later.

Most of a mutant's time was the import of code that it does not break. The runner imports our modules from the clean copy, step
by step, each after those that it needs. A mutant begins before the step that would import what it breaks: its fork finds what
comes before, and imports the broken module, and all that need it, by itself.
"""

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mutant import Mutant

ROOT_PACKAGES = ("trimtab", "service", "worker")
"""What Alembic loads by its path is not among them."""


class Imports:
    """The steps by which our packages are imported, and how many of them this process has made."""

    def __init__(self, clean: Path, steps: Sequence[Sequence[str]]) -> None:
        """Make none of them yet.

        Args:
            clean: The folder of the clean copy.
            steps: For each step the module to import, then all that this loads.
        """
        self._clean = clean
        self._steps = steps
        self._made = 0

    @classmethod
    def of(cls, clean: Path) -> "Imports":
        """Find the steps in a fork, which imports everything twice: the first time tells the order."""
        reading, writing = os.pipe()
        if not os.fork():
            with contextlib.suppress(BaseException), os.fdopen(writing, "w") as answer:
                answer.writelines(" ".join(step) + "\n" for step in _steps(clean))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            return cls(clean, [line.split() for line in answer])

    def before(self, mutant: Mutant) -> int:
        """Tell how many steps may be made before a mutant begins."""
        broken = {_module_of(Path(file)) for file in mutant.files}
        places = (place for place, step in enumerate(self._steps) if broken.intersection(step))
        return next(places, len(self._steps))

    def make(self, number: int | None = None) -> None:
        """Make so many steps in all, or every one, and keep what they leave out of the garbage search."""
        for name, *_ in self._steps[self._made : number]:
            _import(self._clean, name)
            self._made += 1
        gc.freeze()

    def arrive(self, copy: Path, number: int) -> None:
        """Let the modules of a fork believe that they come from a copy, and their parts with them.

        Where the runner is beyond so many steps, because the mutant has another try, they are forgotten.
        """
        for name in _ours():
            if self._made > number:
                del sys.modules[name]
            else:
                _move(vars(sys.modules[name]), str(self._clean), str(copy))


def all_from(copy: Path) -> bool:
    """Whether our modules, as far as they are imported, come from a copy and not from an installed project."""
    files = (sys.modules[name].__file__ for name in _ours())
    return all(file is None or Path(file).is_relative_to(copy) for file in files)


def _steps(root: Path) -> Iterator[list[str]]:
    """Each module with what is loaded when it is imported after those before it."""
    files = (
        file for package in ROOT_PACKAGES for file in sorted(root.glob(f"{package}/**/*.py"))
    )
    for file in files:
        # A program is run, not imported.
        if file.stem != "__main__":
            _import(root, _module_of(file.relative_to(root)))
    order = _ours()
    for name in order:
        del sys.modules[name]
    for name in order:
        if name not in sys.modules:
            before = set(_ours())
            _import(root, name)
            yield [name, *(one for one in _ours() if one not in before)]


def _import(root: Path, name: str) -> None:
    """Import a module from a folder; what lacks a library is left to those who ask for it."""
    sys.path.insert(0, str(root))
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
    sys.path.remove(str(root))


def _ours() -> list[str]:
    """Our modules that are imported, in the order in which their imports ended."""
    return [name for name in sys.modules if name.partition(".")[0] in ROOT_PACKAGES]


def _module_of(file: Path) -> str:
    """The name by which a file is imported."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _move(names: dict[str, Any], before: str, now: str) -> None:
    """Change the folder that a module believes to be in, and in which its parts are looked for."""
    names["__file__"] = names["__file__"].replace(before, now, 1)
    if "__path__" in names:
        names["__path__"] = [path.replace(before, now, 1) for path in names["__path__"]]
