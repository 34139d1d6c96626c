"""Peers behind real NATs: hosts in network namespaces of one machine, nftables between them, a switch that delays.

`make netns` runs all and writes docs/nat-results.md; `python -m tests.netns --quick` runs what `.ci/run` does.
"""
