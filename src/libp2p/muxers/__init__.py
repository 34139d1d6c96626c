"""Stream muxers: many streams over one secure channel.

`session.py` says what a muxer's sans-I/O core offers, `connection.py` drives any such core over a channel, and each
folder holds one protocol.
"""
