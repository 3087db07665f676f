"""Findings about devices' memory in SQL."""

from sqlalchemy import Connection, text

from trimtab.contract.memory import MemoryFinding

_KEY = "device, backbone, input_size, precision, frozen_stages, batch_size"
_ALL = f"{_KEY}, memory_bytes, micro_batch_size, peak_bytes"
MOST = 1000


def remember(connection: Connection, finding: MemoryFinding) -> None:
    """Store a finding; of two about the same, the smaller number of pictures at once is kept."""
    values = ", ".join(f":{name.strip()}" for name in _ALL.split(","))
    connection.execute(
        text(f"""
            INSERT INTO trimtab.memory_findings AS f ({_ALL}) VALUES ({values})
            ON CONFLICT ({_KEY}) DO UPDATE SET
                memory_bytes = excluded.memory_bytes,
                micro_batch_size = least(f.micro_batch_size, excluded.micro_batch_size),
                peak_bytes = greatest(f.peak_bytes, excluded.peak_bytes), found_at = trimtab.now()"""),
        finding.model_dump(),
    )


def of_backbone(connection: Connection, backbone: str) -> list[MemoryFinding]:
    """What is known of a backbone, the newest first."""
    rows = connection.execute(
        text(f"""
            SELECT {_ALL} FROM trimtab.memory_findings
            WHERE backbone = :backbone ORDER BY found_at DESC LIMIT :most"""),
        {"backbone": backbone, "most": MOST},
    ).mappings()
    return [MemoryFinding.model_validate(dict(row)) for row in rows]
