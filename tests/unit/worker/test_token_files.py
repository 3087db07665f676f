"""The token in a file: read where only its owner can, and refused in words everywhere else."""

from pathlib import Path

import pytest

from worker.__main__ import USAGE, main
from worker.token_files import TokenUnusable, read


def a_file(folder: Path, content: bytes = b"secret\n", mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_the_token_of_a_file_of_its_owners_alone_is_read(tmp_path: Path, mode: int) -> None:
    assert read(a_file(tmp_path, mode=mode)) == "secret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_read_is_refused_with_its_mode(
    tmp_path: Path, mode: int
) -> None:
    path = a_file(tmp_path, mode=mode)
    with pytest.raises(TokenUnusable, match=rf"its mode is {mode:04o}.*`chmod 600 {path}`"):
        read(path)


def test_a_link_is_as_safe_as_what_it_leads_to(tmp_path: Path) -> None:
    path = a_file(tmp_path, mode=0o644)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(TokenUnusable, match="others can read"):
        read(tmp_path / "link")


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"two\nlines", b"\xff\xfe"])
def test_what_is_no_token_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(TokenUnusable, match="the token and nothing else") as told:
        read(a_file(tmp_path, content))
    assert "words" not in str(told.value)


@pytest.mark.parametrize(
    "verb", [["start"], ["launch", "--slurm", "--server", "http://127.0.0.1:1"]]
)
def test_a_command_says_in_one_line_what_is_wrong_with_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    for path, words in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
        (a_file(tmp_path, mode=0o644), "others can read"),
    ):
        assert main([*verb, "--token-file", str(path)]) == USAGE
        complaint = capsys.readouterr().err
        assert words in complaint
        assert complaint.count("\n") == 1
