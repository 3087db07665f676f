"""The checker finds fault with a broken protocol."""

import pytest

from tests.faults.variants import FOLDER, Variant, is_caught


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["no-fence", "claim-not-idempotent"])
def test_a_broken_protocol_is_caught(name: str) -> None:
    assert is_caught(Variant.read(FOLDER / f"{name}.patch"))
