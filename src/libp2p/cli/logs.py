"""`--log`: what the library's loggers say, on stderr."""

from __future__ import annotations

import logging
import sys

from ..errors import InvalidInput
from .common import printable

ROOT = "libp2p"
LEVELS = ("debug", "info", "warning", "error")


def configure(text: str) -> None:
    """Show what is logged: `text` is a level, or `part=level`, or several of these between commas, such as
    `info,swarm=debug,protocols.kad=debug`. Raises `InvalidInput`.
    """
    levels = {}
    for word in text.split(","):
        part, _, level = word.strip().rpartition("=")
        if level not in LEVELS:
            raise InvalidInput(f"--log takes LEVEL or PART=LEVEL, with {', '.join(LEVELS)}: got {word!r}")
        levels[f"{ROOT}.{part}" if part else ROOT] = level.upper()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger(ROOT)
    root.addHandler(handler)
    root.propagate = False
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class _OneLine(logging.Formatter):
    """What peers say can't steer the terminal; only a traceback has lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return printable(super().formatMessage(record))
