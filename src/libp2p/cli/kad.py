"""What the commands that run a node of a DHT share."""

from __future__ import annotations

from collections.abc import Sequence

from ..discovery import AMINO_BOOTSTRAP
from ..errors import InvalidInput
from ..protocols.kad import AMINO, KadConfig, Mode


class AnyValue:
    """Rules that allow every value: the largest is the best."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Allow it."""

    def select(self, key: bytes, values: Sequence[bytes]) -> int:  # noqa: ARG002
        """The largest."""
        return max(range(len(values)), key=lambda index: values[index])


def kad_config(
    bootstrap: Sequence[str] | None,
    mode: Mode,
    *,
    protocol: str = AMINO,
    namespace: str | None = None,
    alone: bool = False,
) -> KadConfig:
    """The settings of a DHT. Raises `InvalidInput` where there is nobody to begin with, unless it may be `alone`."""
    if not bootstrap and protocol != AMINO and not alone:
        raise InvalidInput(f"name a peer that speaks {protocol}: --bootstrap ADDR")
    known = AMINO_BOOTSTRAP if protocol == AMINO else ()
    return KadConfig(
        protocol=protocol,
        mode=mode,
        bootstrap=tuple(bootstrap or known),
        validators={namespace: AnyValue()} if namespace else {},
    )
