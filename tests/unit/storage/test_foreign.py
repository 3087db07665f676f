"""Whether the tables that a database holds are those of the Optuna that is installed."""

import pytest
from optuna.storages._rdb.models import SCHEMA_VERSION

from service.storage.foreign import OPTUNAS, Found, trouble_with

KNOWN = ("v3", "v2", "v1")
SOME = frozenset({"id"})


@pytest.mark.parametrize(
    "found",
    [
        Found({}),
        Found(OPTUNAS, ("v3",), SCHEMA_VERSION),
        Found(OPTUNAS, ("v3",), SCHEMA_VERSION, is_ours=True, has_schema=True),
        Found(OPTUNAS, None, SCHEMA_VERSION),  # Optuna was killed before it noted its revision
        Found(OPTUNAS, None, None),
        Found({name: columns | SOME for name, columns in OPTUNAS.items()}, ("v3",)),
    ],
)
def test_an_empty_database_and_the_installed_optunas_are_taken(found: Found) -> None:
    assert trouble_with(found, KNOWN) is None


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Found(OPTUNAS, ("v1",), SCHEMA_VERSION), "an older Optuna (at v1)"),
        (Found(OPTUNAS, None, SCHEMA_VERSION - 1), f"(at schema {SCHEMA_VERSION - 1})"),
        (Found(OPTUNAS, ("v4",)), "is at v4, which Optuna"),
        (Found(OPTUNAS, ("3f2a", "v3")), "is at 3f2a and v3, which Optuna"),
        (Found(OPTUNAS, ("v2", "v3")), "(at v2 and v3)"),
        (Found({}, ("3f2a",)), "alembic_version (at 3f2a) that is another tool's"),
        (Found({}, ()), "alembic_version (at nothing yet) that is another tool's"),
        (Found({"trials": SOME, "studies": SOME}), "public.studies that is another tool's"),
        (Found({**OPTUNAS} | {"version_info": SOME}), "that is another tool's"),
        (Found({**OPTUNAS} | {"trials": SOME}, ("v3",)), "public.trials lacks columns"),
        (Found({}, has_schema=True), "schema named trimtab that is another tool's"),
    ],
)
def test_all_others_are_refused_by_what_was_found(found: Found, told: str) -> None:
    assert told in str(trouble_with(found, KNOWN))
