"""Decoding a data set into the cache, in two passes over its files: first facts, then content.

How samples are stored depends on all of them, such as the one side that all pictures have, so that the facts must be
known before the first sample is written. They also have the hash that names the cache's folder: where that is already
there, the second pass is not needed.

Files that cannot be read are told with their reasons, all of them at once.
"""

import errno
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from trimtab.contract.records import MOST_LEFT_OUT, LeftOut
from trimtab.contract.tasks import Task
from worker.data import cache, duplicates, groups, names, splits, targets
from worker.data.errors import DataMissing, UnreadableImages
from worker.data.images.folder import ImageFolder
from worker.data.modality import Encoding, Modality
from worker.data.source import NotASample, Part, Sample, SampleUnreadable, Source
from worker.data.splits import Splits
from worker.data.table import Table

_THREADS = 4
"""Pillow decodes outside the interpreter's lock; more threads would crowd out the training of other slots."""
_OF_THE_FILE = frozenset(
    {
        *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP),
        *(errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG),
    }
)
"""Errors that belong to the file itself and will come again. All others of the system, such as a disk that is away,
pass: they end the reading, and must not be remembered as a bad file."""

_Result = TypeVar("_Result")
_Header = TypeVar("_Header")
_Content = TypeVar("_Content")


def read_facts(
    source: Source[_Header, object], modality: Modality[_Header, Any, Any]
) -> Mapping[str, Any]:
    """Read the header and hash the content of every sample.

    Samples that cannot be read stand under `bad`, by path with their reasons; files that are no samples under
    `left_out`, by reason. Both count in nothing else.

    Returns:
        The modality's facts, with the hash of all that was read, and for each sample the number that its content is
        dealt by (`splits.draw_of`), which its copies share; null for those that do not count.

    Raises:
        ClassNameUnreadable: A class has a name that is no text.
        DataMissing: The disk or the share that holds the files is in trouble.
    """
    names.check(source.classes)

    def look(sample: Sample) -> tuple[_Header, str]:
        return source.header(sample), source.digest(sample)

    whole = hashlib.sha256()
    headers: list[_Header] = []
    contents: list[int | None] = []
    bad: dict[str, str] = {}
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    for sample, found in zip(
        source.samples, _attempts(source, source.samples, look), strict=True
    ):
        if isinstance(found, Exception):
            contents.append(None)
            if isinstance(found, NotASample):
                left_out[str(found)].append(str(sample.path))
            else:
                bad[str(sample.path)] = str(found)
            continue
        header, digest = found
        headers.append(header)
        contents.append(splits.draw_of(digest))
        # The label and the path count too: a picture that moves to another class makes another data set.
        whole.update(
            f"{sample.path}\0{sample.label}\0{digest}\n".encode(errors="surrogateescape")
        )
    return {
        **modality.facts(headers),
        "sha256": whole.hexdigest(),
        "bad": bad,
        "left_out": [one.model_dump(mode="json") for one in told(left_out)],
        "contents": contents,
    }


def told(left_out: Mapping[str, Sequence[str]]) -> tuple[LeftOut, ...]:
    """Return what was left out, given by reason, as the record tells it."""
    return tuple(
        LeftOut(reason=why, count=len(paths), first=tuple(paths[:MOST_LEFT_OUT]))
        for why, paths in left_out.items()
    )


@dataclass(frozen=True, slots=True)
class Encoder(Generic[_Content]):
    """Turns what a source reads into what is stored.

    Attributes:
        modality: The kind of data, which knows how to encode a sample.
        encoding: The dtype and the shape of one stored sample.
    """

    modality: Modality[Any, _Content, Any]
    encoding: Encoding

    def __call__(self, content: _Content) -> NDArray[Any]:
        """Return one sample as it is stored."""
        return self.modality.encode(content, self.encoding)


def fill(
    source: Source[object, _Content],
    task: Task,
    facts: Mapping[str, Any],
    encoder: Encoder[_Content],
    into: Path,
) -> None:
    """Share the samples out and write them, encoded, with a manifest.

    Where bad files are left out, that happens before the sharing. If one turns out to be broken only when it is
    decoded, the sharing begins again without it.

    Raises:
        DataError: There are bad files and the task says to fail, or too little is left; or the disk is in trouble.
    """
    bad: dict[str, str] = dict(facts["bad"])
    if bad and task.on_bad_file == "fail":
        # Nothing will come of it, but one report is to name them all.
        readable = tuple(sample for sample, _ in _readable(source, facts))
        refuse(source, bad | _write(source, {"train": readable}, into, encoder))
    # The shares are of the samples that are left, so that the splits are those of a data set without the file; where it
    # is removed one day, nothing moves. Each turn leaves out at least one file, so that the loop ends.
    while True:
        shared = _share_out(source, task, facts, bad)
        broken = _write(source, shared.parts, into, encoder)
        if not broken:
            break
        if task.on_bad_file == "fail":
            refuse(source, broken)
        bad |= broken
    np.save(into / "train.draws.npy", shared.train_draws)
    manifest = {**_manifest(source, facts, shared), "skipped": {**bad_rows(source), **bad}}
    (into / "manifest.json").write_text(json.dumps(manifest))


def bad_rows(source: Source[object, object]) -> Mapping[str, str]:
    """Return the rows that a table leaves out, by their lines with their reasons."""
    return source.bad_rows if isinstance(source, Table) else {}


def refuse(source: Source[object, object], bad: Mapping[str, str]) -> None:
    """Refuse the data set for its bad files, given by path with their reasons.

    Raises:
        UnreadableImages: There are any.
    """
    if bad:
        located = {source.locate(Sample(Path(path), 0)): why for path, why in bad.items()}
        raise UnreadableImages(located)


def _readable(
    source: Source[object, object], facts: Mapping[str, Any]
) -> list[tuple[Sample, int]]:
    """Return the samples that could be read when the facts were, with the numbers of their contents."""
    numbered = zip(source.samples, facts["contents"], strict=True)
    return [(sample, content) for sample, content in numbered if content is not None]


@dataclass(frozen=True, slots=True)
class _Shared:
    samples: Sequence[Sample]
    contents: Sequence[int]
    draws: Sequence[int]
    parts: Splits
    notes: Sequence[str]

    @property
    def train_draws(self) -> NDArray[np.uint64]:
        """The numbers of the train split's groups and contents, `(N, 2)`, from which few shots are chosen."""
        numbers = zip(self.draws, self.contents, strict=True)
        numbers_of = dict(zip(self.samples, numbers, strict=True))
        return np.array([numbers_of[sample] for sample in self.parts["train"]], dtype=np.uint64)


def _share_out(
    source: Source[object, object],
    task: Task,
    facts: Mapping[str, Any],
    bad: Mapping[str, str],
) -> _Shared:
    kept = [one for one in _readable(source, facts) if str(one[0].path) not in bad]
    samples, contents = [sample for sample, _ in kept], [content for _, content in kept]
    groups.check(samples, source.pattern if isinstance(source, ImageFolder) else None)
    draws = groups.draws(samples, contents)
    parts, notes = splits.assign(
        samples,
        source.classes,
        validation=task.validation,
        test=task.test,
        draws=draws,
    )
    return _Shared(samples, contents, draws, parts, (*notes, *groups.notes(parts)))


def _manifest(
    source: Source[object, object], facts: Mapping[str, Any], shared: _Shared
) -> dict[str, Any]:
    twins = duplicates.report(shared.samples, shared.contents, shared.parts)
    classes = source.target_classes if isinstance(source, Table) else {"class": source.classes}
    return {
        "classes": source.classes,
        "sha256": facts["sha256"],
        "split_sha256": _hash_of(shared.parts),
        "counts": {part: len(members) for part, members in shared.parts.items()},
        "class_counts": _class_counts(shared.parts, len(source.classes)),
        "notes": [*shared.notes, *duplicates.notes(twins), *facts["notes"]],
        "duplicates": twins.model_dump(mode="json"),
        "target_classes": classes,
        "different": {
            part: targets.different(targets.labels_of(members), classes)
            for part, members in shared.parts.items()
        },
    }


def _write(
    source: Source[object, _Content], parts: Splits, into: Path, encoder: Encoder[_Content]
) -> dict[str, str]:
    """Decode the splits into a folder; return what could not be decoded, by path with its reason."""

    def decode(sample: Sample) -> NDArray[Any]:
        return encoder(source.read(sample))

    broken: dict[str, str] = {}

    def decoded(samples: Sequence[Sample]) -> Iterator[NDArray[Any]]:
        for sample, result in zip(samples, _attempts(source, samples, decode), strict=True):
            # The file is too short then. No matter: the caller writes it again, or gives up.
            if isinstance(result, Exception):
                broken[str(sample.path)] = str(result)
            else:
                yield result

    for part, samples in parts.items():
        labels = targets.labels_of(samples)
        cache.write_split(into, part, decoded(samples), labels, encoder.encoding)
    return broken


def _attempts(
    source: Source[object, object], samples: Sequence[Sample], work: Callable[[Sample], _Result]
) -> Iterator[_Result | Exception]:
    """Yield the result of `work` for every sample, in order; for one that cannot be read, the error instead.

    Raises:
        DataMissing: The disk or the share that holds the files is in trouble.
    """

    def attempt(sample: Sample) -> _Result | Exception:
        try:
            return work(sample)
        except (SampleUnreadable, NotASample) as error:
            return error
        except OSError as error:
            if error.errno not in _OF_THE_FILE:
                raise DataMissing(source.locate(sample), str(error)) from error
            return error

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(attempt, samples)


def _hash_of(parts: Splits) -> str:
    """Hash which sample is in which split."""
    whole = hashlib.sha256()
    for part, samples in parts.items():
        for sample in samples:
            whole.update(f"{part}\0{sample.path}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def _class_counts(parts: Splits, classes: int) -> Mapping[Part, list[int]]:
    """Count the samples of each class; there are none where the labels are no classes."""
    counts: dict[Part, list[int]] = {}
    for part, samples in parts.items():
        counts[part] = [0] * classes
        for sample in samples:
            if isinstance(sample.label, int):
                counts[part][sample.label] += 1
    return counts
