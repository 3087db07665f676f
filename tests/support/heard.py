"""What a scripted service heard of leases that a real worker ran."""

from typing import Any, cast

import safetensors

from tests.support.scripted_service import ScriptedService
from trimtab.contract.leases import Lease


def settle(service: ScriptedService, lease: Lease) -> Any:
    """Hand out a lease and wait for its outcome."""
    service.give(lease)
    service.wait_for(lambda: bool(about(service, "outcome", lease)), 120)
    return about(service, "outcome", lease)[0]


def about(service: ScriptedService, verb: str, *leases: Lease) -> list[Any]:
    """List what was said of leases by one verb."""
    ids = {str(lease.lease_id) for lease in leases}
    return [call.body for call in service.of(verb) if call.about in ids]


def kept(service: ScriptedService, lease: Lease) -> dict[str, Any]:
    """Return the checkpoint to evaluate that a lease has left."""
    return about(service, "checkpoint", lease)[-1]["best"]


def weights_of(service: ScriptedService, lease: Lease) -> dict[str, bytes]:
    """Return the weights to evaluate, bit by bit; their file also holds moments if it was written to be carried on from."""
    content = service.artifacts[kept(service, lease)["sha256"]]
    stored: list[tuple[str, dict[str, Any]]] = cast(Any, safetensors).deserialize(content)
    return {
        name: bytes(tensor["data"]) for name, tensor in stored if name.startswith("weights/")
    }
