"""AutoNAT: which addresses of a host strangers reach (`AutoNat`), and telling others (`AutoNatServer`, and
`AutoNatV1Server` for old peers).
"""

from .client import AutoNat, Checked
from .config import AutoNatConfig, AutoNatServerConfig, AutoNatV1Config
from .server import AutoNatServer
from .v1 import AutoNatV1Server
from .wire import BACK_ID, REQUEST_ID, DialStatus, ResponseStatus

__all__ = [
    "BACK_ID",
    "REQUEST_ID",
    "AutoNat",
    "AutoNatConfig",
    "AutoNatServer",
    "AutoNatServerConfig",
    "AutoNatV1Config",
    "AutoNatV1Server",
    "Checked",
    "DialStatus",
    "ResponseStatus",
]
