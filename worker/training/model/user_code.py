"""The backbones that a person's files and packages offer: found by name, and not yet looked into.

A file offers each of its functions and `nn.Module` classes that needs nothing but the number of outputs, as an argument
named `classes` or `num_classes`, under its own name; or what it names in a mapping `BACKBONES`. A package offers
by an entry point of the group `trimtab.backbones`.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import cast

from torch import nn

from trimtab.contract.backbones import OWN_NAME, OWN_PREFIX
from worker.training.errors import BackbonesUnreadable

GROUP = "trimtab.backbones"
"""The group of entry points that packages offer backbones in."""
_TABLE = "BACKBONES"
_ARGUMENTS = ("classes", "num_classes")


@dataclass(frozen=True, slots=True)
class Offer:
    """A backbone that was registered.

    Attributes:
        origin: The file or the entry point that offers it, for messages.
        load: The function that returns the offered object.
    """

    origin: str
    load: Callable[[], object]


def of_files(files: Sequence[Path]) -> Iterator[tuple[str, Offer]]:
    """Run files and yield what they offer.

    Raises:
        BackbonesUnreadable: One is missing, raises or offers nothing.
    """
    for file in files:
        path = file.expanduser().resolve()
        for name, value in _offered(path, _run(path)).items():
            yield name, Offer(str(path), lambda value=value: value)


def of_packages() -> Iterator[tuple[str, Offer]]:
    """Yield what installed packages offer; nothing is imported before it is asked for."""
    for entry in metadata.entry_points(group=GROUP):
        yield entry.name, Offer(f"the entry point {entry.value}", entry.load)


class _AsWritten(SourceFileLoader):
    """Compiles a file anew: Python takes kept bytecode for current if time in seconds and size agree, which a small edit keeps."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the file as it is now."""
        del fullname  # its path says which one
        return self.source_to_code(self.get_data(self.path), self.path)


def _run(path: Path) -> ModuleType:
    """Execute a file as a module. Its neighbours can be imported, but shadow nothing that is installed."""
    if not path.is_file():
        raise BackbonesUnreadable(path, "there is no such file")
    name = f"{OWN_PREFIX}{path}"
    spec = util.spec_from_file_location(name, path, loader=_AsWritten(name, str(path)))
    if path.suffix != ".py" or spec is None or spec.loader is None:
        raise BackbonesUnreadable(path, "its name does not end in .py")
    if str(path.parent) not in sys.path:
        # At the end, so that a file named like an installed package does not take its place.
        sys.path.append(str(path.parent))
    # Dataclasses look for their own module there.
    module = sys.modules[name] = util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BackbonesUnreadable(path, last_line(error, path)) from error
    return module


def _offered(path: Path, module: ModuleType) -> Mapping[str, object]:
    table: object = getattr(module, _TABLE, None)
    if table is None:
        found = {
            name: value
            for name, value in vars(module).items()
            if _is_maker(name, value, module)
        }
    elif isinstance(table, Mapping):
        found = {
            str(name): value for name, value in cast(Mapping[object, object], table).items()
        }
    else:
        raise BackbonesUnreadable(path, f"its {_TABLE} is no mapping of names to functions")
    if not found:
        wanted = f"a function of `classes` that returns the network, or {_TABLE}"
        raise BackbonesUnreadable(path, f"it offers nothing; give it {wanted}")
    if wrong := [name for name in found if not OWN_NAME.fullmatch(name)]:
        raise BackbonesUnreadable(path, f"{wrong[0]!r} is no name of letters, digits, '_.-'")
    return found


def _is_maker(name: str, value: object, module: ModuleType) -> bool:
    """Whether it is a public function or network class of the file itself that needs only the number of outputs."""
    of_the_file = getattr(value, "__module__", None) == module.__name__
    if name.startswith("_") or not of_the_file or not callable(value):
        return False
    if isinstance(value, type) and not issubclass(value, nn.Module):
        return False
    needed = {
        each.name
        for each in inspect.signature(value).parameters.values()
        if each.default is each.empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }
    return argument(value) is not None and needed <= set(_ARGUMENTS)


def argument(build: Callable[..., object]) -> str | None:
    """The name by which a function takes the number of outputs."""
    names = inspect.signature(build).parameters
    return next((name for name in _ARGUMENTS if name in names), None)


def last_line(error: BaseException, path: Path | None = None) -> str:
    """An exception in one line, with the line of the file that it came from."""
    told = traceback.format_exception_only(error)[-1].strip()
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if path is not None and Path(frame.filename) == path
    ]
    return f"line {lines[-1]}: {told}" if lines else told
