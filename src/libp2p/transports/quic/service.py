"""What a UDP socket is used for by those who speak QUIC to it: one `Service` for each protocol asked for by ALPN.

    ClientHello -> admitted? -> ALPN -> Service.terms: which certificate is shown, and whether the dialer's is demanded
    handshake   -> Service.start(driver): the application -> Service.opened(driver, scope)

So libp2p's own connections and those of browsers can share a port.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from ...connection import Accept, Scope
from ...errors import Libp2pError
from .application import Application
from .connection import QuicConnection
from .driver import Driver
from .engine import Terms


class Service(ABC):
    """Takes the connections to a socket whose dialers ask for `alpn`."""

    def __init__(self, alpn: str, terms: Terms, accept: Accept) -> None:
        self.alpn = alpn
        self.terms = terms
        self.accept = accept
        """Asked before a handshake, told of those that come to nothing."""

    @abstractmethod
    def start(self, driver: Driver) -> Application:
        """Our side of the handshake is over; what the terms demand is proven."""

    @abstractmethod
    def opened(self, driver: Driver, scope: Scope) -> None:
        """Both sides have accepted each other. `scope` goes with the connection from here on."""

    @abstractmethod
    def died(self, error: Exception) -> None:
        """The socket has broken, and is closed."""


class PeerService(Service):
    """libp2p's own: peers, who prove in the handshake who they are.

    `start` makes the connection; `claim` takes it, where somebody waits for just this peer; `died` tells the listener.
    """

    def __init__(
        self,
        alpn: str,
        terms: Terms,
        accept: Accept,
        *,
        start: Callable[[Driver], QuicConnection],
        claim: Callable[[QuicConnection], bool],
        died: Callable[[Exception], None],
    ) -> None:
        super().__init__(alpn, terms, accept)
        self._start = start
        self._claim = claim
        self._died = died

    def start(self, driver: Driver) -> QuicConnection:
        """See `Service.start`."""
        return self._start(driver)

    def opened(self, driver: Driver, scope: Scope) -> None:
        """Hand the connection to who has waited for this peer, else to who listens, unless it may not come in."""
        connection = driver.application
        assert isinstance(connection, QuicConnection)
        try:
            scope.identified(connection.remote_peer)
        except Libp2pError as error:
            scope.release()
            driver.abort(str(error))
            self.accept.connection_failed(connection.local_addr, connection.remote_addr, error)
            return
        if self._claim(connection):
            scope.release()
        else:
            self.accept.connection_opened(connection, scope)

    def died(self, error: Exception) -> None:
        """See `Service.died`."""
        self._died(error)
