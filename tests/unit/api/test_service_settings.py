"""The settings: an open door is refused before anything starts, and no refusal repeats a secret."""

import pytest
from pydantic import SecretStr, ValidationError

from service.__main__ import main
from service.app import create_app
from service.settings import Settings

SETTINGS = (
    "host",
    "port",
    "token",
    "database_url",
    "data_dir",
    "artifacts_dir",
    "sweep_every_s",
    "pool_size",
    "artifacts_kept_s",
    "drain_s",
)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(f"TRIMTAB_{name.upper()}", raising=False)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "10.1.2.3",
        "192.168.0.1",
        "example.org",
        "",
        "localhost.evil",
        "127.0.0.1.evil",
        "::ffff:10.0.0.1",
    ],
)
def test_without_a_token_only_this_machine_is_listened_to(host: str) -> None:
    with pytest.raises(ValidationError, match=r"refusing to listen on .* without a token"):
        Settings(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert Settings(host=host).is_loopback


def test_with_a_token_any_address_may_be_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_TOKEN", "s3cr3t" + 26 * "x")
    settings = Settings(host="0.0.0.0")
    assert not settings.is_loopback
    assert "s3cr3t" not in repr(settings)


def test_a_token_that_others_could_guess_is_good_for_this_machine_alone() -> None:
    short = SecretStr(31 * "x")
    assert Settings(token=short).is_loopback
    with pytest.raises(ValidationError, match="fewer than 32 characters") as refused:
        Settings(host="0.0.0.0", token=short)
    assert "openssl rand -hex 32" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("token", "", "TRIMTAB_TOKEN must be"),
        ("token", " ", "TRIMTAB_TOKEN must be"),
        ("token", "with space", "TRIMTAB_TOKEN must be"),
        ("token", "newline\n", "TRIMTAB_TOKEN must be"),
        ("token", "gehëim", "TRIMTAB_TOKEN must be"),
        ("port", "70000", "port: "),
        ("port", "http", "port: "),
        ("sweep_every_s", "nan", "sweep_every_s: "),
        ("pool_size", "0", "pool_size: "),
    ],
)
def test_a_bad_setting_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(f"TRIMTAB_{name.upper()}", value)
    monkeypatch.setenv(
        "TRIMTAB_DATABASE_URL", "sqlite://"
    )  # were it taken, nothing would serve
    assert main([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("trimtab: ")
    assert said in told.err
    assert not value.strip() or f"'{value}'" not in told.err


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:s3cr3t@127.0.0.1/x", "'mysql' is not supported"),
        ("sqlite:///s3cr3t.db", "'sqlite' is not supported"),
        ("s3cr3t", "malformed"),
        (None, "no database: set TRIMTAB_DATABASE_URL"),
    ],
)
def test_what_is_no_postgres_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str | None, said: str
) -> None:
    if url is not None:
        monkeypatch.setenv("TRIMTAB_DATABASE_URL", url)
    with pytest.raises(ValueError, match=said) as refused:
        create_app(Settings())
    assert "s3cr3t" not in str(refused.value)
