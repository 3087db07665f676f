"""The sweep: leases past their time are revoked, and studies whose budget is spent are brought to their end."""

from service.domain import leasing
from service.storage import leases
from service.storage import studies as study_rows
from service.use_cases import studies
from service.use_cases.context import Context


def sweep(context: Context) -> int:
    """Revoke every lease past its time, then let each study follow from what was spent; returns how many expired.

    Every replica may sweep at any time: the rows that one works on are skipped by the others.
    """
    with context.database.transaction() as connection:
        expired = leases.lock_expired(connection)
        for lease in expired:
            leases.leave(
                connection, lease.lease_id, leasing.expired(lease.held), lease.held.kind
            )
    for lease in expired:
        context.sampling.touch(lease.study_id)
    with context.database.statements() as connection:
        names = study_rows.to_follow(connection)
    for name in names:
        studies.follow(context, name)
    return len(expired)
