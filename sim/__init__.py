"""Simulations of whole networks, in virtual time: `make sim`."""
