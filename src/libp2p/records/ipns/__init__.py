"""IPNS records: make, check, compare."""

from .record import (
    DEFAULT_LIFETIME,
    DEFAULT_TTL,
    MAX_SIZE,
    NAMESPACE,
    IpnsRecord,
    parse_name,
    routing_key,
)

__all__ = ["DEFAULT_LIFETIME", "DEFAULT_TTL", "MAX_SIZE", "NAMESPACE", "IpnsRecord", "parse_name", "routing_key"]
