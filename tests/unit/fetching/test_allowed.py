"""A study makes a worker fetch from nowhere but where whoever runs the worker allows it."""

import pytest

from worker.fetching.allowed import Allowed, fault_of
from worker.fetching.errors import AddressDenied

SHA256 = "0" * 64
PUBLIC = {"data.example.org": ("93.184.216.34",), "sly.example.org": ("169.254.169.254",)}


def is_allowed(address: str, *prefixes: str, everything: bool = False) -> bool:
    allowed = Allowed(prefixes, everything, lambda host: PUBLIC.get(host, ()))
    try:
        allowed.check(address)
    except AddressDenied:
        return False
    return True


@pytest.mark.parametrize(
    ("address", "prefix", "answer"),
    [
        ("https://data.example.org/sets/a.tar", "https://data.example.org/sets", True),
        ("https://data.example.org/sets/a.tar?sig=1#x", "https://data.example.org/sets/", True),
        ("https://data.example.org:443/sets/a", "https://data.example.org/sets", True),
        ("https://data.example.org/sets-of-others/a", "https://data.example.org/sets", False),
        ("https://data.example.org/sets/../private", "https://data.example.org/sets", False),
        (
            "https://data.example.org/sets/%2e%2e/private",
            "https://data.example.org/sets",
            False,
        ),
        ("https://data.example.org.evil.org/sets/a", "https://data.example.org", False),
        ("https://data.example.org:8443/a", "https://data.example.org", False),
        ("http://data.example.org/a", "https://data.example.org", False),
        ("https://anywhere.org/a", "https://", True),
        ("s3://bucket/a", "s3://bucket", True),
        ("s3://bucket-of-others/a", "s3://bucket", False),
        ("s3://bucket/flowers/a", "s3://bucket/flowers", True),
        ("s3://bucket/flowers/a", "gs://bucket", False),
    ],
)
def test_an_address_is_below_one_that_is_allowed_by_whole_parts(
    address: str, prefix: str, answer: bool
) -> None:
    assert is_allowed(address, prefix) is answer


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("https://data.example.org/a", True),
        ("s3://bucket/a", True),
        ("http://data.example.org/a", False),
        ("https://169.254.169.254/latest/meta-data", False),
        ("https://[fe80::1]/a", False),
        ("https://[::ffff:169.254.169.254]/a", False),
        ("https://sly.example.org/a", False),
    ],
)
def test_without_a_word_all_is_allowed_on_ones_own_machine_but_what_is_never_data(
    address: str, answer: bool
) -> None:
    assert is_allowed(address, everything=True) is answer
    assert not is_allowed(address, everything=False)


def test_what_was_uploaded_to_the_service_is_always_allowed_but_nobody_leads_there() -> None:
    assert is_allowed(f"trimtab://{SHA256}")
    with pytest.raises(AddressDenied):
        Allowed().check(f"trimtab://{SHA256}", from_address="https://data.example.org/a")


@pytest.mark.parametrize(
    "prefix", ["data.example.org", "ftp://host", "https://host/?a=b", "/data"]
)
def test_a_setting_that_is_no_beginning_of_addresses_is_refused(prefix: str) -> None:
    assert prefix in (fault_of(prefix) or "")
    assert fault_of("https://data.example.org/sets/") is None
