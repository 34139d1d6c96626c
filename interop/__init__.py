"""The matrix: other libp2p implementations and ours in conversation. README.md says how to run it and add to it."""
