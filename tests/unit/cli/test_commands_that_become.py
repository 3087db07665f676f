"""Commands that become another program: which one, with which words, and what it inherits."""

import os
import sys
from collections.abc import Callable, Mapping

import pytest

from trimtab.cli import app
from trimtab.cli.handover import environment


class Became(Exception):
    """Stands for the program that the command would have become."""

    def __init__(self, path: str, argv: list[str], env: Mapping[str, str]) -> None:
        super().__init__(argv)
        self.path = path
        self.argv = argv
        self.env = env


Become = Callable[..., Became]


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Become:
    def execve(path: str, argv: list[str], env: Mapping[str, str]) -> None:
        raise Became(path, argv, env)

    monkeypatch.setattr(os, "execve", execve)
    for name in ("TRIMTAB_SERVER", "TRIMTAB_TOKEN", "TRIMTAB_HOST", "TRIMTAB_PORT"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Became:
        with pytest.raises(Became) as became:
            app.run(arguments)
        return became.value

    return run


@pytest.mark.parametrize(
    ("arguments", "argv"),
    [
        ("server", "service"),
        (
            "server --host 0.0.0.0 --port 0 --data-dir d",
            "service --host 0.0.0.0 --port 0 --data-dir d",
        ),
        ("worker start", "worker start --server http://127.0.0.1:8000"),
        (
            "worker start --server http://head:1 --label a --device cuda:1 --cache-dir c --exit-when-idle 9 --grace 60 --backbones a.py --backbones b.py --slots 4 --threads 3 --together 16 --cache-gb 200",
            "worker start --server http://head:1 --device cuda:1 --label a --cache-dir c --backbones a.py --backbones b.py --slots 4 --threads 3 --together 16 --cache-gb 200.0 --exit-when-idle 9.0 --grace 60.0",
        ),
        (
            "predict --model m --json a.png b.png",
            "worker predict --model m --json -- a.png b.png",
        ),
        ("predict --model m --skip-bad a/", "worker predict --model m --skip-bad -- a/"),
        (
            "predict --model m --builtin digits --index 7",
            "worker predict --model m --builtin digits --index 7",
        ),
        ("pretrain glyphs --out d", "worker pretrain glyphs --out d"),
        (
            "pretrain glyphs --out d --epochs 3 --seed 0",
            "worker pretrain glyphs --out d --epochs 3 --seed 0",
        ),
    ],
)
def test_a_command_becomes_the_program_that_does_it(
    arguments: str, argv: str, become: Become
) -> None:
    became = become(*arguments.split())
    assert became.path == sys.executable
    # -P: a worker.py in the user's folder must not be taken for ours.
    assert became.argv == [sys.executable, "-P", "-m", *argv.split()]


def test_what_is_not_said_is_left_to_the_environment(
    become: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_SERVER", "http://head:1")
    monkeypatch.setenv("TRIMTAB_PORT", "81")
    assert "http://head:1" in become("worker", "start").argv
    assert become("server").argv[-2:] == ["--port", "81"]


def test_a_token_is_handed_on_in_the_environment_and_never_as_a_word(become: Become) -> None:
    became = become("worker", "start", "--token", "s3cret")
    assert became.env["TRIMTAB_TOKEN"] == "s3cret"
    assert "s3cret" not in became.argv


def test_the_users_own_environment_goes_before_ours_and_the_option_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRIMTAB_TOKEN", "from-outside")
    assert environment(None)["TRIMTAB_TOKEN"] == "from-outside"
    assert environment("s3cret")["TRIMTAB_TOKEN"] == "s3cret"


def test_a_picture_whose_name_begins_with_a_dash_is_a_picture(become: Become) -> None:
    assert become("predict", "--model", "m", "--", "-o").argv[-2:] == ["--", "-o"]
