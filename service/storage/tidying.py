"""The sweeper's own row, and what it looks at before it revokes anything."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from service.domain.tidying import Running


@dataclass(frozen=True, slots=True)
class Sweeper:
    """When any replica last swept, and for how long a mass expiry has been held back. Durations in seconds."""

    silence_s: float
    held_s: float | None


def lock_sweeper(connection: Connection) -> Sweeper | None:
    """Lock the sweeper's row for this transaction; None while another replica has it."""
    row = connection.execute(
        text("""
            SELECT CAST(extract(epoch FROM trimtab.now() - swept_at) AS float8),
                   CAST(extract(epoch FROM trimtab.now() - held_since) AS float8)
            FROM trimtab.sweeper FOR UPDATE SKIP LOCKED""")
    ).one_or_none()
    return None if row is None else Sweeper(*row)


def note_sweep(connection: Connection, *, holding: bool) -> None:
    """Note that a sweep looked at the leases now, and whether it holds a mass expiry back."""
    connection.execute(
        text("""
            UPDATE trimtab.sweeper
            SET swept_at = trimtab.now(),
                held_since = CASE WHEN :holding THEN coalesce(held_since, trimtab.now()) END"""),
        {"holding": holding},
    )


def extend(connection: Connection, below_ttl_s: float) -> int:
    """Let every running lease with a shorter time to live begin anew; returns how many."""
    return connection.execute(
        text("""
            UPDATE trimtab.trials t SET lease_until = greatest(t.lease_until, trimtab.now() + s.lease_ttl)
            FROM trimtab.studies s
            WHERE t.state = 'running' AND s.study_id = t.study_id
              AND s.lease_ttl < make_interval(secs => :below_ttl_s)"""),
        {"below_ttl_s": below_ttl_s},
    ).rowcount


def running(connection: Connection) -> Running:
    """Count the running leases, and those past their time."""
    row = connection.execute(
        text("""
            SELECT count(*), count(*) FILTER (WHERE t.lease_until < trimtab.now()),
                   CAST(extract(epoch FROM min(s.lease_ttl)) AS float8),
                   CAST(extract(epoch FROM max(s.lease_ttl) FILTER (WHERE t.lease_until < trimtab.now())) AS float8)
            FROM trimtab.trials t JOIN trimtab.studies s USING (study_id) WHERE t.state = 'running'""")
    ).one()
    return Running(*row)
