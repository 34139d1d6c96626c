"""The `libp2p` command: `libp2p --help` tells what it does. Needs the extra `cli`."""

from __future__ import annotations

import importlib.util
import sys

_NEEDS = ("typer", "rich", "h11")


def main() -> None:
    """Run the command with the process's arguments. Without the extra's packages: a hint on stderr, exit code 2."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        hint = 'pip install "py-libp2p[cli]"'
        print(f"libp2p: the command needs {', '.join(missing)}; install it with: {hint}", file=sys.stderr)
        sys.exit(2)
    from .app import app  # noqa: PLC0415 - needs the packages just looked for

    app(prog_name="libp2p")
