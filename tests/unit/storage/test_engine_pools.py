"""How many connections a replica opens is said once."""

import pytest
from sqlalchemy.pool import QueuePool

from service.storage import engine


@pytest.mark.parametrize("pool_size", [2, 3, 10, 35])
def test_the_two_pools_together_open_as_many_connections_as_were_asked_for(
    pool_size: int,
) -> None:
    database = engine.connect("postgresql://nobody@localhost/nothing", pool_size=pool_size)
    sizes: list[int] = []
    for one in (database.engine, database.autocommit):
        assert isinstance(one.pool, QueuePool)
        assert one.pool._max_overflow == 0  # pyright: ignore[reportPrivateUsage]
        sizes.append(one.pool.size())
    assert sum(sizes) == pool_size
    assert min(sizes) >= 1
