"""Errors and values can be copied, and pickled for another process."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from libp2p import errors
from libp2p.errors import Libp2pError
from libp2p.identity import KeyType, PrivateKey
from libp2p.multiaddr import Multiaddr

KEY = PrivateKey.generate()
ADDR = Multiaddr("/ip4/192.0.2.1/udp/1/quic-v1")
KEYS = [PrivateKey.generate(kind).public_key for kind in KeyType]

ERRORS: list[Libp2pError] = [
    errors.MessageTooLarge("m", limit=3),
    errors.IncompleteRead(b"ab", 5),
    errors.PeerIdMismatch(expected=KEY.peer_id, actual=KEY.peer_id),
    errors.ProtocolNotSupported(["/a"], peer=KEY.peer_id),
    errors.LimitExceeded("m", scope="host", value=3),
    errors.StageTimeout("dial", 3.0),
    errors.ConnectionClosed("bye", by="remote", code=0x1007),
    errors.StreamReset(3, by="remote"),
    errors.RequestFailed("ValueError", "no", peer=KEY.peer_id),
    errors.LimitedConnection(KEY.peer_id),
    errors.DialError(KEY.peer_id, {ADDR: OSError(1, "x")}),
    errors.ListenError(ADDR, "why"),
    errors.InvalidKey("weak"),
]
WAYS: list[Callable[[Any], Any]] = [lambda thing: pickle.loads(pickle.dumps(thing)), copy.copy, copy.deepcopy]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors(error: Libp2pError) -> None:
    error.add_note("at noon")
    for way in WAYS:
        again = way(error)
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.__dict__.keys() == error.__dict__.keys()
        assert {k: str(v) for k, v in again.__dict__.items()} == {k: str(v) for k, v in error.__dict__.items()}


@pytest.mark.parametrize("value", [KEY.peer_id, ADDR, *ADDR, *KEYS], ids=lambda value: type(value).__name__)
def test_values(value: Any) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(value, protocol)) == value
    assert copy.copy(value) == copy.deepcopy(value) == value


def test_errors_are_of_the_kinds_that_programs_catch() -> None:
    peer = PrivateKey.generate().peer_id
    assert isinstance(errors.ConnectionClosed("x", by="local"), ConnectionError)
    assert isinstance(errors.DialError(peer, {}), OSError)
    assert isinstance(errors.ListenError(Multiaddr("/ip4/127.0.0.1/tcp/1"), "x"), OSError)
    assert str(errors.ListenError(Multiaddr("/ip4/127.0.0.1/tcp/1"), "x")) == "cannot listen on /ip4/127.0.0.1/tcp/1: x"
