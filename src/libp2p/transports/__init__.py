"""Transports: ways to reach other machines. Each folder is one; what they dial and accept are finished connections."""
