"""The two kinds of pubsub: gossipsub, and floodsub, which is gossipsub with nobody who speaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from random import Random
from typing import TypedDict, Unpack

from ...connection.service import ServiceHost
from ...identity import PeerId
from ...routing import Discovery
from .config import FLOODSUB, GossipSubConfig, PubSubConfig
from .events import Tracer
from .service import PubSub
from .wire import Rpc


class Options(TypedDict, total=False):
    """What both take beside their settings; `PubSub` says what each is."""

    dice: Random | None
    tracer: Tracer | None
    inspect: Callable[[PeerId, Rpc], bool] | None
    discovery: Discovery | None
    wall_clock: Callable[[], int]


class GossipSub(PubSub):
    """Gossipsub 1.0 to 1.3, which speaks floodsub with those who know no better."""

    def __init__(self, host: ServiceHost, config: GossipSubConfig | None = None, **options: Unpack[Options]) -> None:
        super().__init__(host, config or GossipSubConfig(), **options)


class FloodSub(PubSub):
    """Floodsub only: each message goes to all peers of its topic. For small networks, and for tests."""

    def __init__(self, host: ServiceHost, config: PubSubConfig | None = None, **options: Unpack[Options]) -> None:
        base = config or PubSubConfig()
        settings = {field.name: getattr(base, field.name) for field in fields(PubSubConfig)}
        super().__init__(host, GossipSubConfig(**settings, protocols=(FLOODSUB,)), **options)
