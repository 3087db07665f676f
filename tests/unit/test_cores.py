"""The cores that a process may use, read from trees like those of a machine, and how threads wait."""

from pathlib import Path

import pytest

from trimtab import cores
from trimtab.cli import up

V1 = "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n"


def _tree(root: Path, groups: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n", "a/cpu.max": "400000 100000\n"}, 2),
        # The path is the one outside of the container, where only the root of the tree is to be seen.
        ("0::/../../host/a\n", {"cpu.max": "100000 50000\n"}, 2),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        (
            V1,
            {
                "cpu,cpuacct/docker/a/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        (
            V1,
            {
                "cpu,cpuacct/docker/a/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/docker/a/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        # Version 1 beside an empty tree of version 2, as systemd mounts them.
        (V1 + "0::/docker/a\n", {"unified/cpu.max": "100000 100000\n"}, 8),
        ("", {"cpu.max": "nonsense\n"}, 8),
        ("0::/\n", {"cpu.max": "100000 0\n"}, 8),
    ],
)
def test_the_quota_of_the_control_group_bounds_the_cores(
    tmp_path: Path, groups: str, files: dict[str, str], expected: int
) -> None:
    assert cores.usable(_tree(tmp_path, groups, files), allowed=8, present=16) == expected


def test_the_affinity_and_the_machine_bound_the_cores(tmp_path: Path) -> None:
    root = _tree(tmp_path, "0::/\n", {"cpu.max": "600000 100000\n"})
    assert cores.usable(root, allowed=3, present=16) == 3
    assert cores.usable(root, allowed=16, present=4) == 4
    assert cores.usable(tmp_path / "nothing", allowed=5, present=8) == 5
    assert cores.usable() >= 1


def test_threads_that_wait_sleep_at_once_where_cores_are_shared_and_else_after_a_moment() -> (
    None
):
    assert cores.waiting({}, shared=False) == {"GOMP_SPINCOUNT": "20000"}
    assert cores.waiting({}, shared=True) == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
@pytest.mark.parametrize("shared", [False, True])
def test_how_the_user_lets_threads_wait_stays(name: str, shared: bool) -> None:
    assert cores.waiting({name: "0"}, shared=shared) == {}


def test_the_workers_of_one_machine_divide_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "usable", lambda: 6)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    divided = up._threads  # pyright: ignore[reportPrivateUsage] - the rule alone, without processes
    assert divided(1) == {}
    assert divided(2) == {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "PASSIVE"}
    assert divided(8)["OMP_NUM_THREADS"] == "1"
