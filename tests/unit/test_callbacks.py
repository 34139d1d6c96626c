"""Callbacks that are called at once: an `async def` is refused, or refuses."""

import functools
import logging
from typing import Any

import pytest

from libp2p.callbacks import at_once, is_async
from libp2p.errors import DialError
from libp2p.host import Host
from libp2p.protocols.pubsub import GossipSub
from libp2p.swarm import Gater, RuleGater
from libp2p.swarm.events import PeerConnected


async def wait(*_: Any, **__: Any) -> bool:
    return False


class Waiting:
    async def __call__(self, *_: Any) -> None:
        pass


@functools.wraps(wait)
def decorated(*arguments: Any) -> Any:
    return wait(*arguments)


ASYNC = [wait, Waiting(), decorated, functools.partial(wait, 1)]


@pytest.mark.parametrize("function", ASYNC, ids=["function", "object", "decorated", "partial"])
async def test_async_functions_are_refused_where_nobody_would_await_them(function: Any) -> None:
    assert is_async(function)
    async with Host() as host:
        with pytest.raises(TypeError, match="plain function"):
            host.events.on(PeerConnected, function)
        with pytest.raises(TypeError, match="plain function"):
            host.handle(match=function)(wait)
        with pytest.raises(TypeError, match="plain function"):
            RuleGater(allow=function)
        with pytest.raises(TypeError, match="plain function"):
            GossipSub(host, inspect=function)
        assert "/x" not in host.protocols


async def test_what_looks_plain_and_gives_something_to_await_refuses(caplog: pytest.LogCaptureFixture) -> None:
    class Asking(Gater):
        async def check_dial(self, *_: Any) -> None:  # type: ignore[override]
            pass

    by_lambda = RuleGater(allow=lambda peer, addr: wait())  # type: ignore[arg-type, return-value]
    async with Host(listen_addrs=["/memory/1"]) as server:
        for gater in (Asking(), by_lambda):
            async with Host(gater=gater) as host:
                with caplog.at_level(logging.ERROR), pytest.raises(DialError, match="plain function"):
                    await host.connect(server.addrs[0])
    assert "a gater failed, which refuses" in caplog.text


def test_answers_pass() -> None:
    assert at_once(5, "x") == 5
    assert at_once(None, "x") is None
