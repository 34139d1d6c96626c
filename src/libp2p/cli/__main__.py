"""`python -m libp2p.cli` is the `libp2p` command."""

from . import main

main()
