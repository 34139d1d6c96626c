"""Simulations of DHTs: see `python -m sim.dht --help`."""
