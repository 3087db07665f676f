"""What the folders of a data set are: classes, splits, or something that nobody should guess at."""

from collections import Counter
from pathlib import Path

import pytest

from worker.data.errors import LayoutUnclear, NoClasses
from worker.data.images import folder
from worker.data.images.folder import ImageFolder


def _scan(root: Path, *paths: str) -> ImageFolder:
    """Scan a folder that holds these files; nothing in them is read."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return folder.scan(root)


def _held(found: ImageFolder) -> Counter[tuple[str | None, str]]:
    """Return the number of files of each split and class."""
    return Counter(
        (part, found.classes[label] if isinstance(label, int) else "")
        for _, label, part, _ in found.listed
    )


def _refusal(root: Path, *paths: str) -> str:
    with pytest.raises(LayoutUnclear) as caught:
        _scan(root, *paths)
    assert caught.value.kind == "user_error"
    return str(caught.value)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("Training", "Validation", "Testing"),
        ("TRAIN", "VALID", "TEST"),
        ("training", "dev", "testing"),
        ("Train", "Dev", "Test"),
    ],
)
def test_splits_are_known_by_their_usual_names_in_any_case(
    tmp_path: Path, train: str, validation: str, test: str
) -> None:
    found = _scan(
        tmp_path,
        *(f"{train}/{name}" for name in ("cat/1.png", "cat/2.png", "dog/1.png")),
        *(f"{validation}/cat/1.png", f"{test}/dog/1.png", f"{test}/dog/2.png"),
    )
    assert found.classes == ("cat", "dog")
    assert _held(found) == {
        ("train", "cat"): 2,
        ("train", "dog"): 1,
        ("validation", "cat"): 1,
        ("test", "dog"): 2,
    }


def test_training_and_testing_alone_are_splits_and_no_classes(tmp_path: Path) -> None:
    found = _scan(
        tmp_path,
        *("Training/glioma/1.jpg", "Training/none/1.jpg"),
        *("Testing/glioma/1.jpg", "Testing/none/1.jpg"),
    )
    assert found.classes == ("glioma", "none")
    assert {part for _, _, part, _ in found.listed} == {"train", "test"}


@pytest.mark.parametrize(
    "metadata",
    ["__MACOSX", ".ipynb_checkpoints", ".git", "__pycache__", "@eaDir", "lost+found"],
)
def test_folders_of_metadata_are_neither_splits_nor_classes(
    tmp_path: Path, metadata: str
) -> None:
    split = _scan(
        tmp_path / "split",
        *("train/cat/1.png", "train/dog/1.png", "val/cat/1.png"),
        *(f"{metadata}/train/cat/1.png", f"train/cat/{metadata}/1.png"),
        *(f"train/{metadata}/1.png",),
    )
    assert _held(split) == {("train", "cat"): 1, ("train", "dog"): 1, ("validation", "cat"): 1}
    ((reason, paths),) = split.left_out.items()
    assert reason == ("hidden" if metadata[0] == "." else "folder of metadata")
    assert sorted(paths) == sorted([metadata, f"train/{metadata}", f"train/cat/{metadata}"])
    plain = _scan(tmp_path / "plain", "cat/1.png", "dog/1.png", f"{metadata}/x/1.png")
    assert plain.classes == ("cat", "dog")


def test_a_folder_without_classes_beside_splits_is_refused_with_the_layout(
    tmp_path: Path,
) -> None:
    words = _refusal(
        tmp_path,
        *("train/sea/1.jpg", "train/street/1.jpg", "test/sea/1.jpg", "test/street/1.jpg"),
        *("pred/1.jpg", "pred/2.jpg"),
    )
    assert "test and train hold folders of the same names, such as sea" in words
    assert "take pred away from the splits" in words
    assert (
        "pred (2 files), test (folders sea and street), train (folders sea and street)" in words
    )


def test_a_copy_of_the_whole_beside_splits_is_refused_with_the_layout(tmp_path: Path) -> None:
    """The chest X-ray pictures that many begin with come so: the archive holds itself once more."""
    splits = [
        f"{part}/{name}/1.jpeg" for part in ("train", "val", "test") for name in ("ILL", "WELL")
    ]
    words = _refusal(tmp_path, *splits, *(f"chest_xray/{path}" for path in splits))
    assert "test, train and val hold folders of the same names, such as ill" in words
    assert "take chest_xray away from the splits" in words
    assert "chest_xray (folders test, train and val)" in words


@pytest.mark.parametrize(
    "paths",
    [
        ("seg_train/seg_train/a/1.jpg", "seg_test/seg_test/a/1.jpg", "seg_pred/seg_pred/1.jpg"),
        ("fold1/cat/1.png", "fold1/dog/1.png", "fold2/cat/1.png", "fold2/dog/1.png"),
        ("Train/Cat/1.png", "Train/dog/1.png", "eval/cat/1.png", "eval/dog/1.png"),
        ("ill/images/1.png", "ill/masks/1.png", "well/images/1.png", "well/masks/1.png"),
        (
            "train/cat/images/1.png",
            "train/cat/masks/1.png",
            "train/dog/masks/1.png",
            "train/dog/x/1",
        ),
        ("train/cat/1.png", "train/dog/1.png", "unlabelled/1.png"),
        ("Val/cat/1.png", "Val/dog/1.png", "Test/cat/1.png", "Test/dog/1.png"),
    ],
)
def test_folders_that_are_divided_alike_are_never_classes(
    tmp_path: Path, paths: tuple[str, ...]
) -> None:
    more = [path.replace("/a/", "/b/") for path in paths]
    assert "What is there:" in _refusal(tmp_path, *paths, *more)


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    words = _refusal(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "Valid/a/1.png")
    assert "Valid and val both mean validation; keep one of them" in words


def test_a_folder_around_the_data_set_is_told(tmp_path: Path) -> None:
    words = _refusal(tmp_path, "archive/train/a/1.png", "archive/test/a/1.png")
    assert f"perhaps {tmp_path / 'archive'} is the data set's path" in words


def test_many_folders_are_shortened(tmp_path: Path) -> None:
    words = _refusal(tmp_path, *(f"{n:02}/{m:02}/1.png" for n in range(20) for m in range(20)))
    assert "12 more" in words
    assert len(words) < 2000


@pytest.mark.parametrize(
    ("paths", "classes"),
    [
        (("train/1.png", "car/1.png"), ("car", "train")),
        (("cat/images/1.png", "dog/images/1.png"), ("cat", "dog")),
        (("cat/2019/1.png", "cat/2020/1.png", "dog/2021/1.png"), ("cat", "dog")),
        (("test/1.png", "control/a/1.png", "control/b/1.png"), ("control", "test")),
    ],
)
def test_what_may_be_classes_are_classes(
    tmp_path: Path, paths: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    found = _scan(tmp_path, *paths)
    assert found.classes == classes
    assert len(found.listed) == len(paths)


def test_pictures_of_a_split_in_no_class_are_told(tmp_path: Path) -> None:
    found = _scan(
        tmp_path, "train/a/1.png", "train/b/1.png", "test/1.png", "test/2.png", "README.md"
    )
    assert found.left_out == {"in no class folder": ["README.md", "test/1.png", "test/2.png"]}
    assert {part for _, _, part, _ in found.listed} == {"train"}


def test_splits_without_class_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NoClasses, match="train: has no class folders"):
        _scan(tmp_path, "train/1.png", "test/1.png")
