"""Pubsub with other implementations, beyond what the matrix asks of a pair: ../README.md, "In one pubsub network"."""
