"""Two hosts with a connection between them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from libp2p.connection import Connection
from libp2p.host import Host, HostConfig

Pair = Callable[..., AbstractAsyncContextManager[tuple[Host, Host, Connection]]]  # what the tests say, too


@asynccontextmanager
async def _pair(
    config: HostConfig | None = None, *, prepare: Callable[[Host], None] = lambda _: None
) -> AsyncIterator[tuple[Host, Host, Connection]]:
    """A listener, a dialer with `config`, and the dialer's connection; `prepare` gets the listener before that."""
    async with Host(listen_addrs=["/memory/0"]) as listener, Host(config=config) as dialer:
        prepare(listener)
        yield listener, dialer, await dialer.connect(listener.addrs[0])


@pytest.fixture
def pair() -> Pair:
    return _pair
