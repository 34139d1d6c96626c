"""The command's table of contents."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import InvalidInput
from . import chat, demo, dht, doctor, identify, identity, listen, logs, perf, ping, pubsub, relay
from .common import EXIT_CODES, ExitCode, fail

app = typer.Typer(
    help="Talk to libp2p peers, and be one.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def common(
    log: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="Log to stderr: debug, info, warning, error; or for parts: swarm=debug,..."),
    ] = None,
) -> None:
    """Talk to libp2p peers, and be one."""
    if log is not None:
        try:
            logs.configure(log)
        except InvalidInput as error:
            fail(error, ExitCode.USAGE)


app.command("id", epilog=EXIT_CODES)(identity.show_id)
app.command("listen", epilog=EXIT_CODES)(listen.listen)
app.command("relay", epilog=EXIT_CODES)(relay.relay)
app.command("doctor", epilog=EXIT_CODES)(doctor.doctor)
app.command("ping", epilog=EXIT_CODES)(ping.ping)
app.command("identify", epilog=EXIT_CODES)(identify.identify)
app.command("perf", epilog=EXIT_CODES)(perf.perf)
app.add_typer(dht.app, name="dht")
app.command("crawl", epilog=EXIT_CODES)(dht.crawl)
app.add_typer(pubsub.app, name="pubsub")
app.command("chat", epilog=EXIT_CODES)(chat.chat)
app.command("demo", epilog=EXIT_CODES)(demo.demo)
app.command("demo-peer", hidden=True)(demo.demo_peer)
