"""Attacks on a host, with real processes: `make hostile`."""
