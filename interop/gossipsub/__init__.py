"""Our program of the community's gossipsub-interop framework (libp2p/test-plans, gossipsub-interop): ../README.md."""
