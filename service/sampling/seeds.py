"""Seeds of what is decided by chance: each of its own, and the same whenever it is decided anew."""

import hashlib


def seed_of(study_seed: int | None, of: str) -> int:
    """Return 32 bits that depend on both alone: one seed for all proposals would make them twins."""
    digest = hashlib.blake2s(f"{study_seed}:{of}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")
