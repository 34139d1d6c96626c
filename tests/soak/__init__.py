"""A host in use for a long time: `make soak`."""
