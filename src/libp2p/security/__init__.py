"""Security protocols: each turns a raw connection into a channel that is encrypted, and whose peer is proven."""
