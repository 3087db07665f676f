"""What the folders of a data set are, by their names and what is in them: classes, or splits that hold classes."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from worker.data.errors import LayoutUnclear
from worker.data.images.tree import Folder
from worker.data.source import Part

PART_NAMES: Mapping[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""The words for splits, in small letters; people write them in any case."""

_SHOWN = 8
_AS_A_TABLE = (
    "if they are classes all the same, put their pictures directly into them, or list them in a table "
    "(`kind: csv`)"
)


def part_of(name: str) -> Part | None:
    """Return the split that a word stands for, None if it stands for none."""
    return PART_NAMES.get(name.casefold())


def splits_of(root: Path, tree: Folder) -> Mapping[str, Part]:
    """Return the split that each folder is, by the folder's name; empty if they are none.

    They are splits if all of them have names of splits and one is that of train.

    Raises:
        LayoutUnclear: Two of them are the same split.
    """
    parts: dict[str, Part] = {name: part for name in tree.folders if (part := part_of(name))}
    if "train" not in parts.values() or len(parts) < len(tree.folders):
        return {}
    for part in set(parts.values()):
        same = [name for name, own in parts.items() if own == part]
        if len(same) > 1:
            why = f"{_listed(same)} both mean {part}"
            raise LayoutUnclear(root, why, _seen(tree), "keep one of them, or join them")
    return parts


def check_classes(root: Path, tree: Folder, groups: re.Pattern[str] | None = None) -> None:
    """Refuse folders that cannot be classes, since they are divided alike themselves, as splits are.

    Args:
        root: The data set's folder.
        tree: The folder that holds them.
        groups: The pattern of the groups. Folders that it names, those of persons say, may be in several classes.

    Raises:
        LayoutUnclear: Two of them have folders of the same names in them, or one is a split by its name and content.
    """
    path = root / tree.path
    inner = {name: _unwrapped(folder) for name, folder in tree.folders.items()}
    if len(inner) == 1:
        _check_only_folder(path, tree)
    parts: dict[str, Part | None] = {name: part_of(name) for name in inner}
    if shared := _shared(inner, groups):
        below, holders = next(iter(shared.items()))
        why = f"{_listed(holders)} hold folders of the same names, such as {below}, as splits do and classes do not"
        raise LayoutUnclear(path, why, _seen(tree), _to_do(parts))
    for name, folder in inner.items():
        if parts[name] and len(folder.folders) > 1 and not folder.files:
            why = f"{name} has the name of a split and holds folders, and not all folders beside it are splits"
            raise LayoutUnclear(path, why, _seen(tree), _to_do(parts))


def _shared(
    inner: Mapping[str, Folder], groups: re.Pattern[str] | None
) -> Mapping[str, Sequence[str]]:
    """Return the names of folders that are in several of the folders, in small letters, each with those that hold it."""
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for name, folder in inner.items():
        for below, held in folder.folders.items():
            if groups is None or not _names(groups, held):
                holders[below.casefold()].append(name)
    return {below: names for below, names in holders.items() if len(set(names)) > 1}


def _names(groups: re.Pattern[str], folder: Folder) -> bool:
    """Tell whether the pattern takes the name of a group from the name of a folder, in the path of its first picture."""
    found = groups.search(next(folder.all_files(), ""))
    begin, end = len(folder.path) - len(Path(folder.path).name), len(folder.path)
    spans = [] if found is None else [found.span(number) for number in range(groups.groups + 1)]
    # All of what is matched, where there are no parentheses to say which part of it counts.
    return any(first < end and last > begin for first, last in spans[1:] or spans)


def _check_only_folder(path: Path, tree: Folder) -> None:
    ((name, folder),) = tree.folders.items()
    if len(folder.folders) > 1 and not folder.files:
        why = f"its only folder, {name}, holds the folders {_listed(folder.folders)}"
        do = f"perhaps {path / name} is the data set's path"
        raise LayoutUnclear(path, why, _seen(tree), do)


def _unwrapped(folder: Folder) -> Folder:
    """Return what is inside of folders that hold nothing but one more folder, such as an archive unpacked twice."""
    while len(folder.folders) == 1 and not folder.files:
        (folder,) = folder.folders.values()
    return folder


def _to_do(parts: Mapping[str, Part | None]) -> str:
    others = [name for name, part in parts.items() if part is None]
    if others and "train" in parts.values():
        return (
            f"take {_listed(others)} away from the splits, or make a folder with links to the splits alone; "
            f"{_AS_A_TABLE}"
        )
    return f"call splits train, val and test; {_AS_A_TABLE}"


def _seen(tree: Folder) -> str:
    return ", ".join(
        [
            *(_described(name, folder) for name, folder in list(tree.folders.items())[:_SHOWN]),
            *([f"{len(tree.folders) - _SHOWN} more"] if len(tree.folders) > _SHOWN else []),
        ]
    )


def _described(name: str, folder: Folder) -> str:
    files, folders = len(folder.files), folder.folders
    held = [
        *([f"folder{'s' * (len(folders) != 1)} {_listed(folders)}"] if folders else []),
        *([f"{files} file{'s' * (files != 1)}"] if files else []),
    ]
    return f"{name} ({' and '.join(held) or 'empty'})"


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    if len(others) >= _SHOWN:
        return f"{', '.join(others[:_SHOWN])} and {len(others) + 1 - _SHOWN} more"
    return f"{', '.join(others)} and {last}" if others else last
