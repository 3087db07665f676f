"""Groups: what belongs together stays together, in splits that are made here."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support import vision_files
from tests.support.pictures import folder_task, hash_of, picture, table_task, write_table
from trimtab.contract.datasets import ImageFolderDataset
from trimtab.contract.tasks import Task
from worker import data
from worker.data import Seal, groups, splits
from worker.data.errors import BadRows, ClassTooSmall, GroupUnknown, LayoutUnclear
from worker.data.images import folder
from worker.data.source import Part, Sample

TRACK = r"(track_\d+)"
seeds = st.integers(0, 2**32)


def _assign(
    samples: Sequence[Sample], contents: Sequence[int], classes: int = 2, share: float = 0.2
) -> Mapping[Path, Part]:
    """Return the split of each sample, by its path."""
    parts, _ = splits.assign(
        samples,
        [str(label) for label in range(classes)],
        validation=share,
        test=share,
        draws=groups.draws(samples, contents),
    )
    return {sample.path: part for part, members in parts.items() for sample in members}


def _frames(tracks: Mapping[str, tuple[int, int]]) -> list[Sample]:
    """Samples of tracks, each given by its label and its number of frames."""
    return [
        Sample(Path(f"{name}/{number}"), label, None, name)
        for name, (label, count) in tracks.items()
        for number in range(count)
    ]


def _contents(samples: Sequence[Sample]) -> list[int]:
    return [hash_of(str(sample.path)) for sample in samples]


@given(seeds, st.integers(6, 25))
def test_no_group_is_in_two_splits_and_a_frame_more_moves_nothing(
    seed: int, count: int
) -> None:
    random = np.random.default_rng(seed)
    tracks = {f"{seed}-{n}": (n % 2, int(random.integers(1, 9))) for n in range(count)}
    samples = _frames(tracks)
    before = _assign(samples, _contents(samples))
    held: defaultdict[str | None, set[Part]] = defaultdict(set)
    for sample in samples:
        held[sample.group].add(before[sample.path])
    assert all(len(parts) == 1 for parts in held.values())
    name = list(tracks)[seed % count]
    more = _frames(tracks | {name: (tracks[name][0], tracks[name][1] + 3)})
    after = _assign(more, _contents(more))
    assert {path: after[path] for path in before} == before


@given(seeds, st.integers(6, 25))
def test_a_group_more_moves_three_groups_at_most(seed: int, count: int) -> None:
    tracks = {f"{seed}-{n}": (n % 2, 1) for n in range(count)}
    samples = _frames(tracks)
    before = _assign(samples, _contents(samples))
    more = _frames({"new": (0, 5), **tracks})
    after = _assign(more, _contents(more))
    assert sum(after[path] != part for path, part in before.items()) <= 3


def test_the_shares_are_those_of_groups() -> None:
    samples = _frames({f"t{n}": (n % 2, 1 + n) for n in range(20)})
    placed = _assign(samples, _contents(samples))
    found = {(sample.label, sample.group, placed[sample.path]) for sample in samples}
    assert Counter((label, part) for label, _, part in found) == {
        (label, part): count
        for label in (0, 1)
        for part, count in (("train", 6), ("validation", 2), ("test", 2))
    }


def test_groups_that_share_a_picture_are_one() -> None:
    samples = _frames({f"t{n:02}": (0, 2) for n in range(30)})
    contents = list(range(60))
    contents[7] = contents[20]  # t03 and t10
    contents[21] = contents[44]  # t10 and t22
    draws = groups.draws(samples, contents)
    assert len({draws[row] for row in (6, 7, 20, 21, 44, 45)}) == 1
    assert len(set(draws)) == 28


def test_splits_that_the_data_bring_join_no_groups() -> None:
    samples = [
        *_frames({"a": (0, 1), "b": (0, 1)}),
        *(Sample(Path(f"test/{n}"), 0, "test", "c") for n in range(2)),
    ]
    draws = groups.draws(samples, [5, 6, 5, 6])
    assert draws[0] != draws[1]


def test_a_sample_without_a_group_is_one_by_itself() -> None:
    samples = [Sample(Path(str(n)), 0) for n in range(4)]
    assert groups.draws(samples, [4, 9, 2**63, 9]) == [4, 9, 2**63, 9]


def test_a_group_of_several_classes_goes_with_the_most_frequent_and_every_class_is_in_each_split() -> (
    None
):
    persons = {f"p{n}": (n % 2, 5) for n in range(20)}
    samples = _frames(persons)
    samples += [Sample(Path(f"p{n}/other"), 1 - n % 2, None, f"p{n}") for n in range(20)]
    placed = _assign(samples, _contents(samples))
    whole = {
        part: {s.group for s in samples if placed[s.path] == part} for part in splits.PARTS
    }
    assert {part: len(of) for part, of in whole.items()} == {
        "train": 12,
        "validation": 4,
        "test": 4,
    }
    for part in splits.PARTS:
        assert {s.label for s in samples if placed[s.path] == part} == {0, 1}


def test_a_rare_class_that_is_nowhere_the_most_frequent_may_still_be_in_each_split() -> None:
    samples = _frames({f"p{n}": (0, 5) for n in range(20)})
    samples += [Sample(Path(f"p{n}/ill"), 1, None, f"p{n}") for n in range(20)]
    placed = _assign(samples, _contents(samples))
    assert {placed[s.path] for s in samples if s.label == 1} == set(splits.PARTS)


def test_a_class_of_too_few_groups_is_refused_in_words_of_groups() -> None:
    samples = _frames({"a": (0, 9), "b": (0, 9), "c": (0, 9), "d": (1, 50), "e": (1, 50)})
    with pytest.raises(
        ClassTooSmall, match="'1' is the most frequent one in 2 groups, and 3 are needed"
    ):
        _assign(samples, _contents(samples))


@given(seeds)
def test_each_class_with_enough_groups_is_in_each_split(seed: int) -> None:
    random = np.random.default_rng(seed)
    tracks = {f"{seed}-{n}": (n % 3, int(random.integers(1, 20))) for n in range(9)}
    samples = _frames(tracks)
    placed = _assign(samples, _contents(samples), classes=3, share=0.4)
    found = {(sample.label, placed[sample.path]) for sample in samples}
    assert len(found) == 9


@pytest.mark.parametrize(
    ("pattern", "path", "name"),
    [
        (TRACK, "train/cat/track_17_frame_3.png", "track_17"),
        (r"track_\d+", "cat/track_17_frame_3.png", "track_17"),
        (r"(\d+)/(\d+)_\d+\.ppm$", "00003/00012_00029.ppm", "00003/00012"),
        (r"(a)?_(\d)", "x_7", "/7"),
        (TRACK, "cat/frame_3.png", None),
        (r"(\d*)", "cat/track_17.png", None),
        (r"\d*", "cat/track_17.png", None),
    ],
)
def test_a_group_is_named_by_the_parentheses_or_the_whole_match(
    pattern: str, path: str, name: str | None
) -> None:
    assert groups.group_of(re.compile(pattern), path) == name


def _write_tracks(root: Path, tracks: int, frames: int = 4) -> None:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for track in range(tracks):
            for frame in range(frames):
                seed = hash_of(f"{name} {track} {frame}")
                picture(seed, mode="L").save(root / name / f"{name}_track_{track}_{frame}.png")


def _tracks_by_content(root: Path) -> dict[bytes, str]:
    return {
        np.asarray(Image.open(path)).tobytes(): path.stem.rpartition("_")[0]
        for path in root.rglob("*.png")
    }


def _tracks(task: Task, cache_dir: Path, root: Path) -> dict[Part, set[str]]:
    """The tracks in each split, found by the contents of their pictures."""
    loaded = data.load(task, cache_dir=cache_dir)
    sealed = data.open_test(task, Seal("final"), cache_dir=cache_dir)
    known = _tracks_by_content(root)
    parts: dict[Part, data.Split] = {
        "train": loaded.train,
        "validation": loaded.validation,
        "test": sealed,
    }
    return {part: {known[one.tobytes()] for one in of.inputs} for part, of in parts.items()}


def test_the_tracks_of_a_folder_stay_together_when_frames_are_added(tmp_path: Path) -> None:
    root = tmp_path / "tracks"
    _write_tracks(root, 10)
    task = folder_task(root, group=r"([a-z]+_track_\d+)_")
    before = _tracks(task, tmp_path / "c", root)
    assert {part: len(of) for part, of in before.items()} == {
        "train": 12,
        "validation": 4,
        "test": 4,
    }
    assert sum(len(of) for of in before.values()) == 20
    notes = data.load(task, cache_dir=tmp_path / "c").notes
    assert "groups: 12 in train, 4 in validation, 4 in test" in notes[0]
    for number in range(5):
        picture(number, mode="L").save(root / f"cat/cat_track_{number}_new.png")
    assert _tracks(task, tmp_path / "c", root) == before
    ungrouped = _tracks(folder_task(root), tmp_path / "c", root)
    assert ungrouped["train"] & ungrouped["test"]


def test_few_shots_come_from_as_many_groups(tmp_path: Path) -> None:
    root = tmp_path / "tracks"
    _write_tracks(root, 10)
    task = folder_task(root, group=r"([a-z]+_track_\d+)_")
    loaded = data.load(task, cache_dir=tmp_path / "c", few=6).train
    assert loaded.rows is not None
    names = _tracks_by_content(root)
    assert len({names[loaded.inputs[row].tobytes()] for row in loaded.rows}) == 12


def test_a_picture_whose_path_names_no_group_is_named(tmp_path: Path) -> None:
    root = tmp_path / "tracks"
    _write_tracks(root, 3)
    for number in range(12):
        picture(number, mode="L").save(root / f"dog/frame_{number:02}.png")
    (root / "dog/README.txt").write_text("not a picture, and of no group")
    with pytest.raises(GroupUnknown) as caught:
        data.load(folder_task(root, group=TRACK), cache_dir=tmp_path / "c")
    words = str(caught.value)
    assert (
        "finds nothing in the path of 12 pictures: dog/frame_00.png, dog/frame_01.png" in words
    )
    assert "and 2 more; correct the pattern" in words
    assert "README" not in words
    assert caught.value.kind == "user_error"


def test_groups_across_splits_that_the_data_bring_are_told_and_kept(tmp_path: Path) -> None:
    root = tmp_path / "tracks"
    for part in ("train", "test"):
        _write_tracks(root / part, 5, 2)
    for number, path in enumerate(sorted((root / "test").rglob("*.png"))):
        picture(number, mode="L").save(path)  # no copies of those of train
    for path in (root / "test").rglob("*_track_[34]_*"):
        path.rename(path.with_name(path.name.replace("track_", "track_1")))
    loaded = data.load(folder_task(root, group=r"(\w+_track_\d+)_"), cache_dir=tmp_path / "c")
    assert loaded.counts["test"] == 20
    assert loaded.duplicates.across_splits == 0
    told = next(note for note in loaded.notes if "more than one split" in note)
    assert told.startswith("groups in more than one split that the data set brings: 6, such as")
    assert "cat_track_0 (" in told


def test_persons_with_a_folder_in_each_class_are_groups_and_no_splits(tmp_path: Path) -> None:
    for name in ("ill", "well"):
        for person in range(6):
            (tmp_path / f"{name}/p{person:02}").mkdir(parents=True)
            (tmp_path / f"{name}/p{person:02}/1.png").touch()
    with pytest.raises(LayoutUnclear):
        folder.scan(tmp_path)
    found = folder.scan(tmp_path, r"(p\d+)/")
    assert {group for *_, group in found.listed} == {f"p{person:02}" for person in range(6)}
    with pytest.raises(LayoutUnclear):
        folder.scan(tmp_path, "(ill|well)")


@pytest.mark.parametrize("pattern", ["(", "[", "a{2,1}", "", "x" * 201])
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"group"):
        ImageFolderDataset(kind="image_folder", path="pets", group=pattern)


def _people(folder: Path, cells: Sequence[str]) -> Path:
    rows = [f"{number}.png,{number % 2},{cell}" for number, cell in enumerate(cells)]
    return write_table(folder, ["image,x,person", *rows], pictures=len(cells))


def test_a_column_of_groups_keeps_the_rows_of_each_together(tmp_path: Path) -> None:
    path = _people(tmp_path, [f"Person {number // 2 % 10}" for number in range(40)])
    task = table_task(path, "regression", ["x"], group="person")
    loaded = data.load(task, cache_dir=tmp_path / "c")
    assert loaded.counts == {"train": 24, "validation": 8, "test": 8}
    assert "groups: 6 in train, 2 in validation, 2 in test" in loaded.notes[0]
    other = data.load(table_task(path, "regression", ["x"]), cache_dir=tmp_path / "c")
    assert other.sha256 == loaded.sha256
    assert other.split_sha256 != loaded.split_sha256


def test_other_groups_of_the_same_pictures_make_other_splits(tmp_path: Path) -> None:
    found: list[str] = []
    for number in (2, 4):
        path = _people(tmp_path, [f"Person {row // number}" for row in range(40)])
        task = table_task(path, "regression", ["x"], group="person")
        found.append(data.load(task, cache_dir=tmp_path / "c").split_sha256)
    assert found[0] != found[1]


def test_a_row_without_a_group_is_a_bad_row(tmp_path: Path) -> None:
    path = _people(tmp_path, [*("a", "b", "c", "d") * 5, " "])
    task = table_task(path, "regression", ["x"], group="person")
    with pytest.raises(BadRows, match="line 22: 'person' is empty"):
        data.load(task, cache_dir=tmp_path / "c")


def test_a_column_has_one_use_that_of_groups_too() -> None:
    with pytest.raises(ValueError, match="named twice: x"):
        table_task(Path("table.csv"), "regression", ["x"], group="x")


def test_the_tracks_of_traffic_signs_stay_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision_files.write("GTSRB", tmp_path, monkeypatch)
    training = tmp_path / "gtsrb/GTSRB/Training"
    for path in training.rglob("*.ppm"):
        path.unlink()
    for label in range(2):
        for track in range(10):
            for frame in range(3):
                seed = hash_of(f"{label} {track} {frame}")
                file = training / f"{label:05}/{track:05}_{frame:05}.ppm"
                picture(seed, size=(8, 8)).save(file)
    dataset = {"kind": "torchvision", "name": "GTSRB", "root": str(tmp_path)}
    task = Task.model_validate({"kind": "classification", "dataset": dataset})
    loaded = data.load(task, cache_dir=tmp_path / "c")
    assert loaded.counts == {"train": 48, "validation": 12, "test": 10}
    assert any(
        "groups: 16 in train, 4 in validation, 0 in test" in note for note in loaded.notes
    )
