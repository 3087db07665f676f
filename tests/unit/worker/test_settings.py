import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from trimtab.contract.message import Name
from worker import settings
from worker.fetching.allowed import Allowed


@given(st.text(max_size=100))
def test_any_host_name_makes_a_label(hostname: str) -> None:
    label = settings.default_label(hostname)
    assert TypeAdapter(Name).validate_python(label) == label


def test_the_command_line_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_SERVER", "http://from-environment:1")
    monkeypatch.setenv("TRIMTAB_WORKER_LABEL", "from-environment")
    loaded = settings.load(server="http://given:1", label=None)
    assert loaded.server == "http://given:1"
    assert loaded.label == "from-environment"


def test_the_token_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_TOKEN", "canary")
    loaded = settings.load()
    assert "canary" not in repr(loaded)
    assert loaded.token is not None
    assert loaded.token.get_secret_value() == "canary"


def test_files_of_own_backbones_are_listed_as_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().backbones == ()
    monkeypatch.setenv("TRIMTAB_BACKBONES", f"a.py{os.pathsep}/b/c.py")
    assert settings.load().backbones == (Path("a.py"), Path("/b/c.py"))
    assert settings.load(backbones=[Path("d.py")]).backbones == (Path("d.py"),)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", ""])
def test_a_device_that_cannot_be_is_refused(device: str) -> None:
    with pytest.raises(ValidationError, match="device"):
        settings.load(device=device)


def test_the_roots_are_listed_as_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_WORKER_ROOTS", f"/data{os.pathsep}{os.pathsep}~/weights")
    assert settings.load().roots == (Path("/data"), Path("~/weights"))


@pytest.mark.parametrize(
    ("server", "lacks"),
    [
        ("http://127.0.0.1:8000", False),
        ("http://localhost:8000", False),
        ("http://[::1]:8000", False),
        ("http://head:8000", True),
        ("https://10.0.0.7", True),
    ],
)
def test_off_loopback_roots_are_needed(
    monkeypatch: pytest.MonkeyPatch, server: str, lacks: bool
) -> None:
    monkeypatch.delenv("TRIMTAB_WORKER_ROOTS", raising=False)
    assert settings.load(server=server).lacks_roots is lacks
    monkeypatch.setenv("TRIMTAB_WORKER_ROOTS", "/")
    assert not settings.load(server=server).lacks_roots


def test_addresses_are_listed_and_without_any_all_is_fetched_from_on_loopback_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRIMTAB_WORKER_ADDRESSES", raising=False)
    assert settings.load().allowed == Allowed(everything=True)
    assert settings.load(server="http://head:8000").allowed == Allowed()
    monkeypatch.setenv("TRIMTAB_WORKER_ADDRESSES", "https://host/sets/ s3://flowers")
    given = settings.load(server="http://head:8000").allowed
    assert given == Allowed(("https://host/sets/", "s3://flowers"))
    monkeypatch.setenv("TRIMTAB_WORKER_ADDRESSES", "https://host host/sets")
    with pytest.raises(ValidationError, match="'host/sets' is not the beginning of addresses"):
        settings.load()


def test_the_bound_of_the_cache_is_given_in_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().cache_bytes is None
    assert settings.load(cache_gb=1.5).cache_bytes == 1_500_000_000
    monkeypatch.setenv("TRIMTAB_WORKER_CACHE_GB", "0")
    with pytest.raises(ValidationError, match="cache_gb"):
        settings.load()


def test_further_variables_of_the_training_process_are_listed_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRIMTAB_WORKER_ENVIRONMENT", "MINE, YOURS")
    assert settings.load().environment == ("MINE", "YOURS")
