"""How the service leaves when its starter is gone."""

import uvicorn

from service.__main__ import Server


def test_who_waits_is_told_before_it_listens_no_more() -> None:
    told: list[str] = []
    server = Server(uvicorn.Config(""), lambda: told.append("leaving"), drain_s=60)
    server.leave_now()
    assert told == ["leaving"]
    assert server.should_exit
