"""Where in what was fetched the data set is that a study names."""

from pathlib import Path

from trimtab.contract.data_addresses import divided, place_of
from trimtab.contract.datasets import Dataset, JsonlDataset, TableDataset
from worker.fetching.errors import NotInside
from worker.fetching.unpacking import WHOLE

_SHOWN = 8


def place(dataset: Dataset, folder: Path) -> Path:
    """Return the folder or table of a data set.

    Without a path inside, one folder that stands alone at an archive's top is the data set, and so is its one table.

    Args:
        dataset: The data set, which names an address.
        folder: The folder of what was fetched.

    Raises:
        NotInside: It is not there, or cannot be told.
    """
    address = place_of(dataset) or ""
    inside = divided(address)[1]
    if inside:
        found = folder / inside
        if not found.exists():
            raise NotInside(
                address, f"there is no {inside!r} in it, but at its top {_listed(folder)}"
            )
        return found
    if isinstance(dataset, TableDataset):
        return _table(
            address, folder, ".jsonl" if isinstance(dataset, JsonlDataset) else ".csv"
        )
    if (folder / WHOLE).is_file():
        raise NotInside(
            address, "it is one file and not an archive, and the study needs a folder"
        )
    return _top(folder)


def _table(address: str, folder: Path, ending: str) -> Path:
    if (folder / WHOLE).is_file():
        return folder / WHOLE
    top = _top(folder)
    tables = sorted(path for path in top.iterdir() if path.name.lower().endswith(ending))
    if len(tables) == 1:
        return tables[0]
    raise NotInside(
        address, f"it has {len(tables) or 'no'} files *{ending} at its top, but {_listed(top)}"
    )


def _top(folder: Path) -> Path:
    """Return the folder that stands alone in a folder, or else the folder itself."""
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return visible[0] if len(visible) == 1 and visible[0].is_dir() else folder


def _listed(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(map(repr, names[:_SHOWN])) or "nothing") + more
