"""Nodes of this library and of others in one DHT."""
