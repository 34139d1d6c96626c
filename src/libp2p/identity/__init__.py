"""Keys and peer ids (peer-ids spec, RFC 0001)."""

from .files import load_or_create_private_key, load_private_key, save_private_key
from .private_key import PrivateKey
from .public_key import PeerId, PublicKey
from .wire import KeyType

__all__ = [
    "KeyType",
    "PeerId",
    "PrivateKey",
    "PublicKey",
    "load_or_create_private_key",
    "load_private_key",
    "save_private_key",
]
