"""Groups: samples that belong together, such as the frames of one track or the pictures of one person.

A network that has learned one of them knows the others too, so that all of a group go to one split.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from worker.data import splits
from worker.data.errors import GroupUnknown
from worker.data.source import Part, Sample


def group_of(pattern: re.Pattern[str], path: str) -> str | None:
    """Return the group that a path names: what the pattern's parentheses capture, or else its whole match.

    Returns:
        The name, with a slash between the parts where there are several parentheses; None if the pattern finds nothing,
        or an empty text: that names no group, and all such pictures would be one.
    """
    found = pattern.search(path)
    parts = () if found is None else found.groups("") or (found[0],)
    return "/".join(parts) if any(parts) else None


def check(samples: Sequence[Sample], pattern: str | None) -> None:
    """Refuse samples without a group where a pattern should have named one.

    Raises:
        GroupUnknown: There are any.
    """
    if pattern and (strangers := [one.path for one in samples if one.group is None]):
        raise GroupUnknown(pattern, strangers)


def draws(samples: Sequence[Sample], contents: Sequence[int]) -> list[int]:
    """Return the number that each sample is dealt by, alike for those that must stay together.

    A group's number is made of its name, so that one more sample in it moves nothing; a sample without a group is one
    by itself, and its number is that of its content. Groups that share a content are one.

    Args:
        samples: The samples.
        contents: The number of each sample's content (`splits.draw_of`).
    """
    own = [
        content if sample.group is None else draw_of(sample.group)
        for sample, content in zip(samples, contents, strict=True)
    ]
    # A split that the data set brings takes no part: what is in it stays there, and joins nothing that is not.
    divisible = [sample.part in (None, "train") for sample in samples]
    return joined(own, contents, divisible)


def joined(own: Sequence[int], contents: Sequence[int], divisible: Sequence[bool]) -> list[int]:
    """Return numbers that are alike for samples of one group or of one content, and for all that these join.

    Args:
        own: The number of each sample's group; of one without a group, that of its content.
        contents: The number of each sample's content.
        divisible: Whether a sample is of those that are divided.
    """
    roots: dict[int, int] = {}
    holder: dict[int, int] = {}
    for number, content, takes_part in zip(own, contents, divisible, strict=True):
        if takes_part:
            _join(roots, number, holder.setdefault(content, number))
    return [_root(roots, number) for number in own]


def draw_of(group: str) -> int:
    """Return the number that a group is dealt by."""
    return splits.draw_of(hashlib.sha256(group.encode(errors="surrogateescape")).hexdigest())


def _join(joined: dict[int, int], one: int, other: int) -> None:
    one, other = _root(joined, one), _root(joined, other)
    if one != other:
        joined[max(one, other)] = min(one, other)


def _root(joined: dict[int, int], number: int) -> int:
    """Return the smallest number of those that a number is joined with."""
    root = number
    while root in joined:
        root = joined[root]
    while number != root:  # The next one who asks has a short way.
        joined[number], number = root, joined[number]
    return root


def notes(parts: Mapping[Part, Sequence[Sample]]) -> Iterator[str]:
    """Yield sentences for the person: how many groups each split has, and how many groups are in several."""
    held: defaultdict[str, set[Part]] = defaultdict(set)
    for part, members in parts.items():
        for group in {sample.group for sample in members} - {None}:
            held[str(group)].add(part)
    yield from notes_on(held, tuple(parts))


def notes_on(
    held: Mapping[str, set[Part]], parts: Sequence[Part], noun: str = "picture"
) -> Iterator[str]:
    """Yield the same, of the splits that hold each group.

    Args:
        held: The splits that hold samples of each group, by its name.
        parts: The splits in their order.
        noun: The word for one sample.
    """
    if not held:
        return
    counts = [f"{sum(part in of for of in held.values())} in {part}" for part in parts]
    yield f"{noun}s of one group stay in one split; groups: {', '.join(counts)}"
    if shared := {group: of for group, of in held.items() if len(of) > 1}:
        group, of = min(shared.items())
        yield (
            f"groups in more than one split that the data set brings: {len(shared)}, such as {group} "
            f"({', '.join(part for part in parts if part in of)}); what is measured on them was seen before in part"
        )
