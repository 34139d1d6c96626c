"""Which handler serves which protocol id: exact ids first, then match functions in the order they were added."""

from __future__ import annotations

from ..connection import Handler, Match
from ..multistream.core import encode_message


class HandlerTable:
    """The protocols that a host serves."""

    def __init__(self) -> None:
        self._exact: dict[str, Handler] = {}
        self._matching: list[tuple[Match, Handler]] = []

    @property
    def protocols(self) -> list[str]:
        """The protocol ids served, without those that only a match function knows."""
        return list(self._exact)

    def add(self, protocols: tuple[str, ...], match: Match | None, handler: Handler) -> None:
        """Serve `protocols`, and what `match` accepts. Raises `ValueError` where that is nothing, or served already."""
        if not protocols and match is None:
            raise ValueError("a handler needs a protocol id or a match function")
        if taken := [protocol for protocol in protocols if protocol in self._exact]:
            raise ValueError(f"another handler serves {', '.join(taken)}")
        if twice := [protocol for protocol in protocols if protocols.count(protocol) > 1]:
            raise ValueError(f"named twice: {twice[0]}")
        for protocol in protocols:
            encode_message(protocol)  # refuses what no message can carry
        self._exact.update(dict.fromkeys(protocols, handler))
        if match is not None:
            self._matching.append((match, handler))

    def remove(self, protocols: tuple[str, ...], handler: Handler | None = None) -> None:
        """Stop serving `protocols`, and everything else that their handlers match. Raises `KeyError` for an unknown
        one. With a `handler` those are passed over that it does not serve.
        """
        if handler is not None:
            protocols = tuple(protocol for protocol in protocols if self._exact.get(protocol) == handler)
        handlers = [self._exact[protocol] for protocol in protocols]
        for protocol in set(protocols):
            del self._exact[protocol]
        self._matching = [(match, one) for match, one in self._matching if one not in handlers]

    def find(self, protocol: str) -> Handler | None:
        """The handler for `protocol`."""
        if handler := self._exact.get(protocol):
            return handler
        return next((handler for match, handler in self._matching if match(protocol)), None)
