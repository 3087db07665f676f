"""Leases for tests of the worker."""

import json
from typing import Any
from uuid import uuid4

from trimtab.contract.leases import Checkpoint, Lease


def a_lease(*, epochs: int = 5, resume: Checkpoint | None = None, **changes: Any) -> Lease:
    """A lease on a small trial of a study on digits; other fields may be replaced."""
    document = {
        "lease_id": str(uuid4()),
        "kind": "trial",
        "study": "digits",
        "trial_number": 0,
        "fence": 1,
        "ttl_s": 60.0,
        "seed": 1,
        "task": {"kind": "classification", "dataset": {"kind": "builtin", "name": "digits"}},
        "model": {"backbone": "glyphnet", "weights": "none"},
        "hyperparameters": {"learning_rate": 0.01},
        "recipe": {"epochs": epochs, "learning_rate": 0.01},
        "resume": None if resume is None else resume.model_dump(),
    } | changes
    return Lease.model_validate_json(json.dumps(document))
