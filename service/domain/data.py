"""What differs between the data that a study began with and the data that a worker has."""

from collections.abc import Iterator
from typing import get_args

from trimtab.contract.records import Part, StudyData

SAME_NUMBER = "as many pictures, with other content, names, labels or order"
SHOWN = 5
DIGITS = 12


def differences(began: StudyData, now: StudyData) -> str:
    """Say in words how a worker's data differ from those that a study began with; to be asked where they do."""
    found = [*_pictures(began, now), *_classes(began, now), *_bad_files(began, now)]
    if not found and began.data_sha256 != now.data_sha256:
        found = [SAME_NUMBER]
    found += _fetched(began, now)
    return "; ".join(found) or "the same pictures, divided into other splits"


def _pictures(began: StudyData, now: StudyData) -> Iterator[str]:
    for part in get_args(Part):
        before, after = began.pictures.get(part, 0), now.pictures.get(part, 0)
        if before != after:
            yield f"{after} picture{'s' * (after != 1)} instead of {before} in {part}"


def _classes(began: StudyData, now: StudyData) -> Iterator[str]:
    if began.classes != now.classes:
        yield f"{now.classes} class{'es' * (now.classes != 1)} instead of {began.classes}"
    before = {one.name for one in began.class_counts}
    after = {one.name for one in now.class_counts}
    # Where there are more classes than are told, one that is not told may be there all the same.
    if len(before) == began.classes and len(after) == now.classes:
        yield from _named("gone", sorted(before - after))
        yield from _named("new", sorted(after - before))


def _bad_files(began: StudyData, now: StudyData) -> Iterator[str]:
    if began.skipped == now.skipped:
        return
    known = {one.path for one in began.skipped.first}
    new = [one for one in now.skipped.first if one.path not in known]
    example = f", such as {new[0].path} ({new[0].reason})" if new else ""
    yield f"bad files left out: {now.skipped.count} instead of {began.skipped.count}{example}"


def _fetched(began: StudyData, now: StudyData) -> Iterator[str]:
    before, after = began.fetched, now.fetched
    if before and after and before.address == after.address and before.sha256 != after.sha256:
        yield (
            f"{after.address} has {after.bytes} bytes of version {after.version} now instead of {before.bytes} of "
            f"{before.version}"
        )


def _named(how: str, names: list[str]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield f"{how}: {', '.join(map(repr, names[:SHOWN]))}{more}"


def told(study: str, began: StudyData, now: StudyData) -> str:
    """Tell a person that a worker's data are others than the study's, what differs, and what to do."""
    return (
        f"This worker's data is not the data that the study began with: {differences(began, now)}. "
        f"The study began with data {_short(began)}, and this worker has {_short(now)}. "
        f"Restore the data and resume the study (`trimtab study resume {study}`), or accept the new data with "
        f"`trimtab study rebase {study}`, which begins all trials anew."
    )


def _short(data: StudyData) -> str:
    split = data.split_sha256 or "none"
    return f"{data.data_sha256[:DIGITS]} (split {split[:DIGITS]})"
