"""What workers found out about their devices' memory, for those that come after."""

from uuid import UUID

from service.storage import leases, memory
from service.use_cases.context import Context
from service.use_cases.holding import live
from trimtab.contract.memory import MemoryFinding, MemoryFindings


def remember(context: Context, lease_id: UUID, finding: MemoryFinding) -> None:
    """Keep what the holder of a lease found.

    Raises:
        LeaseNotFound, LeaseLost: the caller does not hold this lease.
    """
    with context.database.statements() as connection:
        live(leases.read(connection, lease_id))
        memory.remember(connection, finding)


def of_backbone(context: Context, backbone: str) -> MemoryFindings:
    """All that is known of a backbone; nothing of one that nobody has trained yet."""
    with context.database.statements() as connection:
        return MemoryFindings(findings=tuple(memory.of_backbone(connection, backbone)))
