import socket
from pathlib import Path

import pytest

from tests.support.scripted_service import ScriptedService
from tests.support.workers import REPOSITORY, SCRIPTED
from trimtab.contract import problems
from worker import devices, settings
from worker.__main__ import FAILED, OK, UNREACHABLE, USAGE, _plan, main  # pyright: ignore[reportPrivateUsage] - the plan alone, without its processes
from worker.agent import supervisor


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["start", "--device", "gpu7"], USAGE, "device: must be auto, cpu, cuda or cuda:N"),
        (["start", "--label", "Upper Case"], USAGE, "label"),
        (["start", "--exit-when-idle", "-1"], USAGE, "exit_when_idle_s"),
        (["start", "--slots", "0"], USAGE, "slots: Input should be greater than or equal to 1"),
        (["start", "--slots", "65"], USAGE, "slots: Input should be less than or equal to 64"),
        (["start", "--grace", "0"], USAGE, "grace_s: Input should be greater than 0"),
        (["start", "--threads", "0"], USAGE, "threads: Input should be greater than or equal"),
        (["start", "--together", "0"], USAGE, "together: Input should be greater than"),
        (["start", "--together", "65"], USAGE, "together: Input should be less than"),
        (
            ["start", "--server", "ftp://127.0.0.1"],
            UNREACHABLE,
            "is not the address of a service",
        ),
        (["start", "--server", "ftp://head"], USAGE, "ftp://head is not on this machine"),
        (
            ["start", "--server", "ftp://head"],
            USAGE,
            "set TRIMTAB_WORKER_ROOTS to the folders",
        ),
        (
            ["predict", "--model", "m"],
            USAGE,
            "give one of these: pictures or texts, --file TABLE, --builtin",
        ),
        (["pretrain", "glyphs", "--out", "out", "--epochs", "0"], USAGE, "--epochs"),
    ],
    ids=str,
)
def test_a_mistake_gets_one_line_that_says_what_is_wrong(
    argv: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == code
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1


def test_more_slots_than_the_memory_is_enough_for_are_refused_before_any_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object) -> None:
        pytest.fail("a slot was started")

    monkeypatch.setattr(supervisor.lifeline, "spawn", never)
    monkeypatch.setattr(devices, "host_memory_bytes", lambda: 5 << 29)
    assert main(["start", "--slots", "3"]) == USAGE
    complaint = capsys.readouterr().err
    assert "3 slots would have 0.83 GiB of memory each" in complaint
    assert "--slots 2 or fewer" in complaint


def test_every_slot_is_told_the_numbers_that_it_works_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []

    def run(options: list[str], *_: object) -> int:
        told.extend(options)
        return OK

    monkeypatch.setattr(supervisor, "run", run)
    numbers = ("--together", "5", "--threads", "3", "--grace", "60", "--cache-gb", "2.5")
    assert main(["start", "--slots", "2", "--devices", "4", *numbers]) == OK
    assert told[told.index("--together") + 1] == "5"
    assert told[told.index("--threads") + 1] == "3"
    assert told[told.index("--grace") + 1] == "60.0"
    assert told[told.index("--cache-gb") + 1] == "2.5"
    assert told[told.index("--devices") + 1] == "4"


def test_a_runner_is_told_its_roots_and_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_WORKER_ROOTS", "/data:/weights")
    monkeypatch.setenv("TRIMTAB_WORKER_ENVIRONMENT", "MINE")
    monkeypatch.setenv("TRIMTAB_TOKEN", "canary")
    monkeypatch.setenv("MINE", "given")
    plan = _plan(settings.load(cache_gb=2, devices=2), 1)
    assert plan.runner[plan.runner.index("--cache-bytes") + 1] == "2000000000"
    assert plan.cache_bytes == 2_000_000_000
    assert plan.runner[plan.runner.index("--devices") + 1] == "2"
    assert plan.runner.count("--root=/data") == plan.runner.count("--root=/weights") == 1
    assert plan.runner_environment is not None
    assert plan.runner_environment["MINE"] == "given"
    assert "canary" not in plan.runner_environment.values()


def test_an_agent_takes_as_many_as_it_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: ScriptedService
) -> None:
    monkeypatch.setenv("TRIMTAB_WORKER_RUNNER", SCRIPTED)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    service.refusals["claim"] = problems.WorkerQuarantined()
    argv = ["start", "--server", service.address, "--cache-dir", str(tmp_path)]
    assert main([*argv, "--together", "5"]) == FAILED
    assert service.of("register")[0].body["capacity"] == 5


def test_a_token_that_cannot_be_sent_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIMTAB_TOKEN", "canary with blanks")
    assert main(["start"]) == FAILED
    complaint = capsys.readouterr().err
    assert "token" in complaint
    assert "canary" not in complaint


def test_the_runner_is_told_the_files_of_own_backbones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIMTAB_BACKBONES", str(tmp_path / "nowhere.py"))
    argv = ["start", "--device", "cpu", "--cache-dir", str(tmp_path)]
    assert main([*argv, "--exit-when-idle", "0.1"]) == FAILED
    complaint = capfd.readouterr().err
    assert f"{tmp_path / 'nowhere.py'}: no backbones can be read from it" in complaint


def test_a_worker_whose_service_never_answered_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIMTAB_WORKER_RUNNER", SCRIPTED)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        argv = ["start", "--server", address, "--cache-dir", str(tmp_path)]
        assert main([*argv, "--exit-when-idle", "0.1"]) == UNREACHABLE
    assert f"No trimtab service answers at {address}" in capsys.readouterr().err
