"""The proxy itself: what it leaves behind would be found in some later test."""

import contextlib
import gc
import socket
import warnings

from tests.faults.proxy import Network


def test_a_network_that_ends_while_connections_come_leaves_no_socket_open() -> None:
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=200))
        with Network() as network:
            proxy = network.proxy(lambda: [upstream.getsockname()[1]], seed=0)
            address = ("127.0.0.1", proxy.port)
            for _ in range(100):
                stack.enter_context(socket.create_connection(address))
        del network, proxy
        with warnings.catch_warnings(record=True, action="always") as left:
            gc.collect()
    assert [str(warning.message) for warning in left] == []
