"""Which files a study may make a worker read, and what a refusal tells."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.support.leases import a_lease
from tests.support.pictures import folder_task, picture, table_task, write_classes, write_table
from tests.support.tiny import CPU
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from worker.data import Seal, load, open_test
from worker.data.errors import BadRows, DataMissing, MissingColumns, OutsideRoots
from worker.data.roots import Roots
from worker.pipe_messages import RunTrial
from worker.runner import final_lease
from worker.runner.progress import Cancelled
from worker.runner.resources import Resources
from worker.training.device.threads import Threads
from worker.training.final.evaluation import final_evaluation
from worker.training.final.evaluator import Evaluator


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    return tmp_path / "outside"


def _words(path: Path, roots: Roots) -> str:
    """The refusal without the path itself."""
    with pytest.raises(OutsideRoots) as caught:
        roots.resolve(path)
    assert caught.value.kind == "data_missing"
    return str(caught.value).replace(str(path), "")


def test_a_refusal_does_not_tell_whether_there_is_such_a_file(
    inside: Path, outside: Path
) -> None:
    roots = Roots.of([inside])
    (outside / "there").write_text("secret")
    assert _words(outside / "there", roots) == _words(outside / "not there", roots)
    assert _words(outside / "there" / "below", roots) == _words(outside, roots)


def test_paths_are_resolved_before_they_are_judged(inside: Path, outside: Path) -> None:
    (inside / "out").symlink_to(outside)
    (outside / "in").symlink_to(inside)
    (inside / "circle").symlink_to(inside / "circle")
    roots = Roots.of([outside / "in"])
    assert roots.folders == (str(inside),)
    assert roots.resolve(inside / "a" / ".." / "b") == inside / "b"
    assert roots.resolve(outside / "in" / "a") == inside / "a"
    assert roots.resolve(inside / "circle") == inside / "circle"
    for path in (
        inside / ".." / "outside",
        inside / "out" / "a",
        inside.parent / "inside-too",
        inside.parent,
        Path("~nobody-of-this-name/a"),
    ):
        with pytest.raises(OutsideRoots):
            roots.resolve(path)
        assert not roots.allow(str(path))


@pytest.mark.parametrize("folders", [[], ["/"], ["/proc", "/dev", "/sys"]])
@pytest.mark.parametrize("path", ["/proc/self/environ", "/sys/kernel", "/dev/zero", "/dev"])
def test_what_the_kernel_shows_is_never_read(
    folders: list[str], path: str, tmp_path: Path
) -> None:
    roots = Roots.of(map(Path, folders))
    (tmp_path / "link").symlink_to(path)
    for name in (path, tmp_path / "link"):
        with pytest.raises(OutsideRoots):
            roots.resolve(name)


def test_without_roots_and_with_the_root_of_all_everything_else_is_read(tmp_path: Path) -> None:
    for roots in (Roots(), Roots.of([Path("/")])):
        assert roots.resolve(tmp_path) == tmp_path
        assert roots.resolve("/dev/shm/data") == Path("/dev/shm/data")


def test_a_folder_inside_is_read_and_one_outside_is_not(inside: Path, outside: Path) -> None:
    roots, cache = Roots.of([inside]), inside / "cache"
    for folder in (inside, outside):
        write_classes(folder / "data", {"a": 5, "b": 5})
    (inside / "link").symlink_to(outside / "data")
    task = folder_task(inside / "data")
    assert sum(load(task, cache_dir=cache, roots=roots).counts.values()) == 10
    assert len(open_test(task, Seal("final"), cache_dir=cache, roots=roots).labels) > 0
    for path in (outside / "data", inside / "link"):
        with pytest.raises(OutsideRoots, match="only below"):
            load(folder_task(path), cache_dir=cache, roots=roots)
        with pytest.raises(OutsideRoots, match="only below"):
            open_test(folder_task(path), Seal("final"), cache_dir=cache, roots=roots)


@pytest.mark.parametrize("on_bad_file", ["fail", "skip"])
def test_a_link_out_of_a_folder_is_refused_by_the_links_own_name(
    inside: Path, outside: Path, on_bad_file: str
) -> None:
    roots = Roots.of([inside])
    write_classes(inside / "data", {"a": 5, "b": 5})
    picture(7).save(outside / "secret.png")
    (inside / "data" / "a" / "innocent.png").symlink_to(outside / "secret.png")
    task = folder_task(inside / "data").model_copy(update={"on_bad_file": on_bad_file})
    # As long as it was allowed, the worker knew the content.
    assert sum(load(task, cache_dir=inside / "cache").counts.values()) == 11
    with pytest.raises(OutsideRoots) as caught:
        load(task, cache_dir=inside / "cache", roots=roots)
    assert "innocent.png" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_of_a_linked_folder_the_link_alone_is_named(inside: Path, outside: Path) -> None:
    (inside / "data").mkdir()
    (inside / "data" / "link").symlink_to(outside)
    with pytest.raises(OutsideRoots) as caught:
        Roots.of([inside]).check(
            inside / "data" / "link" / "deep" / "secret.png", below=inside / "data"
        )
    assert str(caught.value).startswith(f"{inside / 'data' / 'link'}: ")


def _table(inside: Path, picture_path: str) -> Task:
    rows = [f"{number}.png,{number}" for number in range(8)]
    path = write_table(inside, ["image,age", *rows, f"{picture_path},9"], pictures=8)
    return table_task(path, "regression", ["age"])


def test_a_row_that_leads_outside_is_told_alike_whether_its_picture_is_there_or_not(
    inside: Path, outside: Path
) -> None:
    roots = Roots.of([inside])
    picture(1).save(outside / "there.png")
    (inside / "link.png").symlink_to(outside / "there.png")
    told: set[str] = set()
    for name in (
        "../outside/there.png",
        "../outside/gone.png",
        f"{outside}/there.png",
        "link.png",
    ):
        with pytest.raises(BadRows) as caught:
            load(_table(inside, name), cache_dir=inside / "cache", roots=roots)
        (reason,) = caught.value.reasons.values()
        told.add(reason.rpartition("'")[2])
    assert told == {" leads to where this worker does not read"}


def test_rows_that_lead_outside_are_left_out_where_bad_rows_are(
    inside: Path, outside: Path
) -> None:
    picture(1).save(outside / "there.png")
    task = _table(inside, "../outside/there.png").model_copy(update={"on_bad_file": "skip"})
    seen = load(task, cache_dir=inside / "cache", roots=Roots.of([inside]))
    assert sum(seen.counts.values()) == 8
    assert seen.skipped.first[0].path == "line 10"


def test_a_table_outside_is_not_looked_at(inside: Path, outside: Path) -> None:
    path = write_table(outside, ["image,age", "0.png,1"], pictures=1)
    told: set[str] = set()
    for each in (path, outside / "gone.csv"):
        with pytest.raises(OutsideRoots) as caught:
            load(
                table_task(each, "regression", ["height"]),
                cache_dir=inside / "cache",
                roots=Roots.of([inside]),
            )
        told.add(str(caught.value).replace(str(each), ""))
    assert len(told) == 1


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("root:x:0:0:secret:/root", False),
        ("secret,of,somebody", False),
        ("image,secret", True),
    ],
)
def test_of_a_file_that_is_no_table_of_the_study_nothing_is_quoted(
    inside: Path, first: str, told: bool
) -> None:
    path = write_table(inside, [first, "1,2,3"])
    with pytest.raises(MissingColumns) as caught:
        load(table_task(path, "regression", ["age"]), cache_dir=inside / "cache")
    assert ("secret" in str(caught.value)) is told


def _resources(roots: Roots) -> Any:
    """Only what admitting an order asks of the resources."""
    return Mock(spec=Resources, roots=roots)


@pytest.mark.parametrize("of", ["weights", "teacher"])
def test_weights_and_teachers_are_admitted_by_their_real_paths(
    inside: Path, outside: Path, of: str
) -> None:
    def order(path: Path) -> RunTrial:
        weights = str(path) if of == "weights" else "default"
        teacher = {"kind": "file", "path": str(path)} if of == "teacher" else None
        model = {"backbone": "glyphnet", "weights": weights}
        lease = a_lease(model=model, teacher=teacher)
        return RunTrial(
            lease=lease, folder=inside, teacher=None if teacher is None else Path(path)
        )

    def path_of(admitted: RunTrial) -> str:
        return admitted.lease.model.weights if of == "weights" else str(admitted.teacher)

    resources = _resources(Roots.of([inside]))
    (inside / "link.safetensors").symlink_to(inside / "real.safetensors")
    (inside / "out.safetensors").symlink_to(outside / "a.safetensors")
    admitted = Resources.admit(resources, order(inside / "link.safetensors"))
    assert path_of(admitted) == str(inside / "real.safetensors")
    for path in (outside / "a.safetensors", inside / "out.safetensors"):
        with pytest.raises(OutsideRoots):
            Resources.admit(resources, order(path))


def test_the_weights_of_each_member_are_admitted_by_their_real_paths(
    inside: Path, outside: Path
) -> None:
    def order(path: Path) -> RunTrial:
        model = {"backbone": "glyphnet", "weights": str(path)}
        member: dict[str, Any] = {
            "trial_number": 1,
            "seed": 1,
            "hyperparameters": {},
            "recipe": {},
            "value": 0.5,
        }
        lease = a_lease(kind="final", members=[member, {**member, "model": model}])
        return RunTrial(lease=lease, folder=inside)

    resources = _resources(Roots.of([inside]))
    (inside / "link.safetensors").symlink_to(inside / "real.safetensors")
    former, other = Resources.admit(resources, order(inside / "link.safetensors")).lease.members
    assert former.model is None
    assert other.model is not None
    assert other.model.weights == str(inside / "real.safetensors")
    with pytest.raises(OutsideRoots):
        Resources.admit(resources, order(outside / "a.safetensors"))


def test_a_teacher_that_the_agent_has_fetched_needs_no_root(
    inside: Path, outside: Path
) -> None:
    teacher = {"kind": "study", "name": "earlier", "model": {"sha256": "a" * 64, "bytes": 1}}
    order = RunTrial(
        lease=a_lease(teacher=teacher), folder=inside, teacher=outside / "model.safetensors"
    )
    assert Resources.admit(_resources(Roots.of([inside])), order) == order


def test_a_final_evaluation_reads_below_the_roots(
    monkeypatch: pytest.MonkeyPatch, inside: Path
) -> None:
    given: list[Evaluator] = []

    def hand_over(evaluator: Evaluator, *_: object, **__: object) -> None:
        given.append(evaluator)
        raise Cancelled

    monkeypatch.setattr(final_lease, "hand_over", hand_over)
    monkeypatch.setattr(final_lease, "_winner", Mock(return_value=Mock(threads=Threads(1, 1))))
    order = RunTrial(lease=a_lease(kind="final"), folder=inside)
    resources = Mock(roots=Roots.of([inside]), admit=Mock(return_value=order))
    resources.threads.most = 1
    final_lease.run(resources, order)
    resources.admit.assert_called_once_with(order)
    assert [evaluator.roots for evaluator in given] == [resources.roots]
    with pytest.raises(OutsideRoots):
        final_evaluation(
            folder_task(inside.parent),
            Model(backbone="glyphnet"),
            Recipe(),
            Mock(),
            seal=Seal("final"),
            cache_dir=inside,
            device=CPU,
            roots=resources.roots,
        )


def test_a_public_data_set_outside_is_neither_read_nor_fetched(
    inside: Path, outside: Path
) -> None:
    task = Task.model_validate(
        {
            "kind": "classification",
            "dataset": {"kind": "torchvision", "name": "MNIST", "root": str(outside / "sets")},
        }
    )
    with pytest.raises(OutsideRoots):
        load(task, cache_dir=inside / "cache", roots=Roots.of([inside]), download=True)
    assert not (outside / "sets").exists()


def test_what_is_missing_inside_is_told_as_missing(inside: Path) -> None:
    with pytest.raises(DataMissing, match="no such folder"):
        load(folder_task(inside / "gone"), cache_dir=inside / "cache", roots=Roots.of([inside]))


def test_a_linked_folder_outside_is_not_even_listed(inside: Path, outside: Path) -> None:
    write_classes(inside / "data", {"a": 5, "b": 5})
    # Folders in it that no layout has: what lies there would be told in the words on layouts.
    for name in ("a", "secret"):
        (outside / name).mkdir()
    (inside / "data" / "test").symlink_to(outside)
    with pytest.raises(OutsideRoots) as caught:
        load(folder_task(inside / "data"), cache_dir=inside / "cache", roots=Roots.of([inside]))
    assert str(inside / "data" / "test") in str(caught.value)
    assert "secret" not in str(caught.value)
