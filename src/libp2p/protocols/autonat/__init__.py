"""AutoNAT v2: which addresses of a host strangers reach (`AutoNat`), and telling others (`AutoNatServer`)."""

from .client import AutoNat, Checked
from .config import AutoNatConfig, AutoNatServerConfig
from .server import AutoNatServer
from .wire import BACK_ID, REQUEST_ID, DialStatus, ResponseStatus

__all__ = [
    "BACK_ID",
    "REQUEST_ID",
    "AutoNat",
    "AutoNatConfig",
    "AutoNatServer",
    "AutoNatServerConfig",
    "Checked",
    "DialStatus",
    "ResponseStatus",
]
