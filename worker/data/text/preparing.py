"""From a table of texts to its splits in the cache, in passes over the file: what is kept of a row has a few bytes."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.contract.records import Duplicates
from worker.data import cache, duplicates, groups, names, splits, targets
from worker.data.errors import DataMissing
from worker.data.modality import Encoding, TokenSpec
from worker.data.source import Part, Sample
from worker.data.splits import PARTS, Rows
from worker.data.text import token_store
from worker.data.text.encoding import Texts
from worker.data.text.table import Columns, TextTable

_FORMAT = 2
"""Part of every key: a change of layout or of the encoding makes old caches invisible."""
_NOUN = "text"
_FACTS = "facts.json"


def prepared(table: TextTable, cache_dir: Path, wanted: TokenSpec) -> tuple[Path, Encoding]:
    """Return the folder of the splits, encoded, and how they are stored; encode them if this machine has not yet.

    Args:
        table: The table.
        cache_dir: Keeps encoded samples, for all processes of this machine.
        wanted: The tokenizer, and the most tokens of a sample.

    Raises:
        DataError: The table or the tokenizer cannot be used, or too little is left to divide.
    """
    modality, task = Texts(wanted), table.task
    fingerprint = table.fingerprint
    # Cheap, and asked for at every load: whether the facts are still those of this file and this tokenizer.
    name = hashlib.sha256(f"text {_FORMAT} {wanted.sha256} {fingerprint}".encode()).hexdigest()
    read = cache.folder_once(
        cache_dir / "texts" / name, partial(_tokenize, table, modality, fingerprint)
    )
    facts = json.loads((read / _FACTS).read_text())
    encoding = modality.encoding(facts, wanted)
    # The texts themselves name the folder, so that a file that was moved is found again.
    shares = f"{task.kind} {task.validation} {task.test} {json.dumps(facts['table'])}"
    key = f"text {_FORMAT} {facts['sha256']} {encoding.key} {shares}"
    folder = cache_dir / hashlib.sha256(key.encode()).hexdigest()
    fill = partial(_fill, table, modality, encoding, fingerprint, read)
    return cache.folder_once(folder, fill), encoding


def _tokenize(table: TextTable, modality: Texts, fingerprint: str, into: Path) -> None:
    """Tokenize every text once, and keep what came of it with the facts of the table."""
    columns = table.columns
    names.check([name for of in columns.classes.values() for name in of])
    tokenizer = modality.tokenizer
    wholes = map(tokenizer.whole, (text for _, text in table.texts()))
    kept = token_store.keep(into, wholes, tokenizer.dtype)
    facts = modality.facts(map(modality.header, kept))
    _check_unchanged(table, fingerprint)
    told = {
        "classes": columns.classes,
        "kinds": [target.kind for target in table.task.targets],
        "division": columns.division,
        "bad_rows": columns.bad_rows,
    }
    (into / _FACTS).write_text(json.dumps({**facts, "sha256": columns.sha256, "table": told}))


def _check_unchanged(table: TextTable, fingerprint: str) -> None:
    """Refuse what was read of a file that somebody was writing meanwhile."""
    if table.fingerprint != fingerprint:
        raise DataMissing(table.path, "it changed while it was read; start the study anew")


@dataclass(frozen=True, slots=True)
class _Shared:
    """Rows and the place in `PARTS` of the split that each goes to, int8 `(N,)`."""

    columns: Columns
    draws: NDArray[np.uint64]
    places: NDArray[np.int8]
    notes: tuple[str, ...]

    def each(self) -> Iterator[tuple[Part, NDArray[np.bool_]]]:
        """Yield each split with the rows that it has, `(N,)`."""
        for place, part in enumerate(PARTS):
            yield part, self.places == place


def _fill(
    table: TextTable,
    modality: Texts,
    encoding: Encoding,
    fingerprint: str,
    read: Path,
    into: Path,
) -> None:
    """Share the rows out and write them, encoded, with a manifest."""
    store = token_store.opened(read, encoding.dtype)
    single = table.task.kind == "classification"
    shared = _share_out(table, single=single)
    columns = shared.columns
    labels = columns.labels[:, 0].astype(np.int64) if single else columns.labels
    different: dict[str, Mapping[str, int]] = {}
    for part, chosen in shared.each():
        samples = (
            modality.encode(text, encoding, store.of(row).tolist())
            for row, text in table.texts(chosen)
        )
        own = labels[chosen]
        cache.write_split(into, part, samples, own, encoding)
        different[part] = targets.different(own, columns.classes)
    in_train = shared.places == PARTS.index("train")
    numbers = np.stack([shared.draws[in_train], columns.contents[in_train]], axis=1)
    np.save(into / "train.draws.npy", numbers)
    manifest = {**_manifest(shared, single=single), "different": different}
    _check_unchanged(table, fingerprint)
    (into / "manifest.json").write_text(json.dumps(manifest))


def _share_out(table: TextTable, *, single: bool) -> _Shared:
    columns, task = table.columns, table.task
    classes = columns.classes[task.targets[0].column] if single else ()
    labels = columns.labels[:, 0] if single else np.zeros(len(columns.lines), np.int32)
    draws = columns.draws
    places, notes = splits.assign_rows(
        Rows(draws, labels.astype(np.int32), columns.parts),
        classes,
        validation=task.validation,
        test=task.test,
        grouped=bool(columns.group_names),
        noun=_NOUN,
    )
    return _Shared(columns, draws, places, notes)


def _manifest(shared: _Shared, *, single: bool) -> dict[str, Any]:
    columns = shared.columns
    classes = next(iter(columns.classes.values())) if single else ()
    counts = {part: int(chosen.sum()) for part, chosen in shared.each()}
    of_classes = {
        part: np.bincount(columns.labels[chosen, 0].astype(np.int64), minlength=len(classes))
        for part, chosen in shared.each()
        if single
    }
    twins = _duplicates(shared)
    told = [*shared.notes, *duplicates.notes(twins, _NOUN), *_group_notes(shared)]
    return {
        "classes": classes,
        "sha256": columns.sha256,
        "split_sha256": _hash_of(shared),
        "counts": counts,
        "class_counts": {part: of.tolist() for part, of in of_classes.items()}
        or {part: [] for part in PARTS},
        "notes": told,
        "duplicates": twins.model_dump(mode="json"),
        "target_classes": columns.classes,
        "skipped": columns.bad_rows,
    }


def _hash_of(shared: _Shared) -> str:
    """Hash which text is in which split."""
    whole = hashlib.sha256()
    for part, chosen in shared.each():
        whole.update(part.encode())
        whole.update(shared.columns.contents[chosen].data)
    return whole.hexdigest()


def _duplicates(shared: _Shared) -> Duplicates:
    """Count copies, and name the first of them; objects are made of the rows that have copies alone."""
    columns = shared.columns
    rows = duplicates.rows_of_copies(columns.contents)
    samples = [
        Sample(Path(f"line {line}"), tuple(_comparable(labels)))
        for line, labels in zip(
            columns.lines[rows].tolist(), columns.labels[rows].tolist(), strict=True
        )
    ]
    parts: defaultdict[Part, list[Sample]] = defaultdict(list)
    for sample, place in zip(samples, shared.places[rows].tolist(), strict=True):
        parts[PARTS[place]].append(sample)
    return duplicates.report(samples, columns.contents[rows].tolist(), parts)


def _comparable(labels: list[float]) -> Iterator[float]:
    """Yield labels of which two that are not known are equal."""
    return (-np.inf if label != label else label for label in labels)


def _group_notes(shared: _Shared) -> Iterator[str]:
    columns = shared.columns
    names_of = columns.group_names
    held: defaultdict[str, set[Part]] = defaultdict(set)
    for part, chosen in shared.each():
        found: list[int] = np.unique(columns.groups[chosen]).tolist()
        for number in found:
            if number >= 0:
                held[names_of[number]].add(part)
    return groups.notes_on(held, PARTS, _NOUN)
