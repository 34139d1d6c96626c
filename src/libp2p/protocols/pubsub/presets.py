"""Settings of known networks, to be changed by `dataclasses.replace`.

    config = replace(ETHEREUM, allowed_topics=frozenset({"/eth2/b5303f2a/beacon_block/ssz_snappy"}))

- `ETHEREUM`: the consensus layer (consensus-specs, phase0/p2p-interface.md and altair's): anonymous messages, ids over
  decompressed data, snappy. The specs say nothing of scores; what is here punishes bad addresses and behaviour, with
  the thresholds that clients use. Topics, whose weights depend on the number of validators, are the application's.
- `FILECOIN`: what lotus runs. `filecoin_topics` has the weights of its two topics of chain data.
- `SMALL_PRIVATE_NETWORK`: up to some dozens of peers that know each other: larger meshes, so that nearly all get all at
  once; mistakes cost score, numbers of peers on one address do not.
"""

from __future__ import annotations

from .config import GossipSubConfig, TopicConfig
from .ids import blake2b_of_data, ethereum
from .score import ScoreParams, ScoreThresholds, TopicScoreParams, decay_over
from .signing import SignaturePolicy
from .snappy import Snappy

_MAX_PAYLOAD = 10 * 1024 * 1024
"""MAX_PAYLOAD_SIZE of Ethereum: bytes of a message's data behind decompression."""

_SLOT = 12.0
_EPOCH = 32 * _SLOT
_HOUR = 3600.0

ETHEREUM = GossipSubConfig(
    topic=TopicConfig(SignaturePolicy.STRICT_NO_SIGN, ethereum, Snappy(limit=_MAX_PAYLOAD)),
    max_message_size=32 + _MAX_PAYLOAD + _MAX_PAYLOAD // 6 + 1024,  # MAX_MESSAGE_SIZE: what cannot be compressed
    max_queue_size=2 * (_MAX_PAYLOAD + _MAX_PAYLOAD // 6),
    seen_ttl=2 * _EPOCH,
    d=8,
    d_low=6,
    d_high=12,
    d_lazy=6,
    heartbeat_interval=0.7,
    fanout_ttl=60.0,
    history_length=6,
    history_gossip=3,
    max_history_size=256 * 1024 * 1024,
    score=ScoreParams(
        ip_colocation_weight=-35.11,
        ip_colocation_threshold=10,
        behaviour_penalty_weight=-15.92,
        behaviour_penalty_threshold=6.0,
        behaviour_penalty_decay=decay_over(10 * _EPOCH, interval=_SLOT),
        decay_interval=_SLOT,
        retain_score=100 * _EPOCH,
    ),
    thresholds=ScoreThresholds(
        gossip=-4000.0, publish=-8000.0, graylist=-16000.0, accept_px=100.0, opportunistic_graft=5.0
    ),
)

FILECOIN = GossipSubConfig(
    topic=TopicConfig(message_id=blake2b_of_data),
    d=8,
    d_score=6,
    d_out=3,
    d_low=6,
    d_high=12,
    d_lazy=12,
    iwant_followup_time=5.0,
    history_length=10,
    gossip_factor=0.1,
    score=ScoreParams(
        app_weight=1.0,
        ip_colocation_weight=-100.0,
        ip_colocation_threshold=5,
        behaviour_penalty_weight=-10.0,
        behaviour_penalty_threshold=6.0,
        behaviour_penalty_decay=decay_over(_HOUR),
        retain_score=6 * _HOUR,
    ),
    thresholds=ScoreThresholds(
        gossip=-500.0, publish=-1000.0, graylist=-2500.0, accept_px=1000.0, opportunistic_graft=3.5
    ),
)


def filecoin_topics(network: str) -> dict[str, TopicScoreParams]:
    """How lotus scores the topics of blocks and messages of a network, such as `testnetnet` (which is the main one)."""
    return {
        f"/fil/blocks/{network}": TopicScoreParams(
            topic_weight=0.1,
            time_in_mesh_weight=0.00027,
            time_in_mesh_cap=1.0,
            first_message_deliveries_weight=5.0,
            first_message_deliveries_decay=decay_over(_HOUR),
            first_message_deliveries_cap=100.0,
            invalid_message_deliveries_weight=-1000.0,
            invalid_message_deliveries_decay=decay_over(_HOUR),
        ),
        f"/fil/msgs/{network}": TopicScoreParams(
            topic_weight=0.1,
            time_in_mesh_weight=0.0002778,
            time_in_mesh_cap=1.0,
            first_message_deliveries_weight=0.5,
            first_message_deliveries_decay=decay_over(600.0),
            first_message_deliveries_cap=100.0,
            invalid_message_deliveries_weight=-1000.0,
            invalid_message_deliveries_decay=decay_over(_HOUR),
        ),
    }


SMALL_PRIVATE_NETWORK = GossipSubConfig(
    d=10,
    d_low=8,
    d_high=16,
    d_score=6,
    d_out=3,
    d_lazy=10,
    score=ScoreParams(
        other_topics=TopicScoreParams(
            first_message_deliveries_weight=0.1,
            first_message_deliveries_decay=decay_over(600.0),
            first_message_deliveries_cap=100.0,
            invalid_message_deliveries_weight=-10.0,
            invalid_message_deliveries_decay=decay_over(600.0),
        ),
        behaviour_penalty_weight=-1.0,
        behaviour_penalty_threshold=6.0,
        behaviour_penalty_decay=decay_over(600.0),
    ),
)
