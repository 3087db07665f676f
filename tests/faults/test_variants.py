"""The checker finds fault with every broken protocol."""

import pytest

from tests.faults.variants import FOLDER, Variant, is_caught

VARIANTS = [Variant.read(patch) for patch in sorted(FOLDER.glob("*.patch"))]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_broken_protocol_is_caught(variant: Variant) -> None:
    assert is_caught(variant)


def test_every_named_variant_is_there() -> None:
    assert {variant.name for variant in VARIANTS} >= {
        "no-fence",
        "update-by-id-only",
        "no-row-lock",
        "budget-checked-before-acting",
        "claim-not-idempotent",
        "amnesty-off",
        "requeue-as-a-new-trial",
        "report-after-settle",
        "paused-trial-begins-anew",
        "paused-trial-is-taken-up-twice",
        "search-is-not-asked",
    }
