"""Settings of known networks, to be changed by `dataclasses.replace`.

    config = replace(ETHEREUM, allowed_topics=frozenset({"/eth2/b5303f2a/beacon_block/ssz_snappy"}))

- `ETHEREUM`: the consensus layer (consensus-specs, phase0/p2p-interface.md and altair's): anonymous messages, ids over
  decompressed data, snappy. The specs say nothing of scores; these are lighthouse's (gossipsub_scoring_parameters.rs).
  `ethereum_topics` has the weights of its topics, which depend on the number of validators.
- `FILECOIN`: what lotus runs (node/modules/lp2p/pubsub.go), without its bootstrap nodes' exceptions: no mesh (`d`,
  `d_low`, `d_high`, `d_score`, `d_out` 0, `d_lazy` 64), `peer_exchange`, 300 s of `prune_backoff`. `filecoin_topics`
  and `filecoin_gater` have the weights of its topics.
- `SMALL_PRIVATE_NETWORK`: up to some dozens of peers that know each other: larger meshes, so that nearly all get all at
  once; mistakes cost score, numbers of peers on one address do not.
"""

from __future__ import annotations

from dataclasses import replace

from .config import GossipSubConfig, TopicConfig
from .gater import PeerGaterParams
from .ids import blake2b_of_data, ethereum
from .score import ScoreParams, ScoreThresholds, TopicScoreParams, decay_over
from .signing import SignaturePolicy
from .snappy import Snappy

_MAX_PAYLOAD = 10 * 1024 * 1024
"""MAX_PAYLOAD_SIZE of Ethereum: bytes of a message's data behind decompression."""

_SLOT = 12.0
_EPOCH = 32 * _SLOT
_HOUR = 3600.0

_ETHEREUM_BEST = (10.0 + 40.0) * (0.5 + 0.5 + 1.0 + 3 * 0.05)
"""What a peer's topics add to its score at best: P1 and P2, by the weights of blocks, aggregates, all attestations
together, and three rare topics."""
_GOSSIP_THRESHOLD = -4000.0
_BEHAVIOUR_DECAY = decay_over(10 * _EPOCH, interval=_SLOT)


def _converges(decay: float, rate: float) -> float:
    """What a counter comes to that grows by `rate` and decays each interval."""
    return rate / (1 - decay)


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
        topic_score_cap=_ETHEREUM_BEST / 2,
        app_weight=1.0,
        ip_colocation_weight=-_ETHEREUM_BEST / 2,
        ip_colocation_threshold=8,
        behaviour_penalty_weight=_GOSSIP_THRESHOLD / (_converges(_BEHAVIOUR_DECAY, 10 / 32) - 6.0) ** 2,
        behaviour_penalty_threshold=6.0,
        behaviour_penalty_decay=_BEHAVIOUR_DECAY,
        decay_interval=_SLOT,
        retain_score=100 * _EPOCH,
    ),
    thresholds=ScoreThresholds(
        gossip=_GOSSIP_THRESHOLD, publish=-8000.0, graylist=-16000.0, accept_px=100.0, opportunistic_graft=5.0
    ),
)


def ethereum_topics(fork_digest: str, validators: int) -> dict[str, TopicScoreParams]:
    """How lighthouse scores the topics of a fork, such as `b5303f2a`, with so many active validators.

    Those of mesh deliveries (P3) expect the network to have run for hours: for a new one they are set to 0 by
    `dataclasses.replace`.
    """
    committees = max(1, min(64, validators // 32 // 128))
    often = committees >= 2 * 64 // 32
    topics = {
        "voluntary_exit": _ethereum_topic(0.05, rate=4 / 32, first_decay=100 * _EPOCH),
        "attester_slashing": _ethereum_topic(0.05, rate=1 / 5 / 32, first_decay=100 * _EPOCH),
        "proposer_slashing": _ethereum_topic(0.05, rate=1 / 5 / 32, first_decay=100 * _EPOCH),
        "beacon_block": _ethereum_topic(
            0.5, rate=1.0, first_decay=20 * _EPOCH, mesh_decay=5 * _EPOCH, cap_factor=3.0, activation=_EPOCH
        ),
        "beacon_aggregate_and_proof": _ethereum_topic(
            0.5,
            rate=_aggregates(validators, committees),
            first_decay=_EPOCH,
            mesh_decay=2 * _EPOCH,
            cap_factor=4.0,
            activation=_EPOCH,
        ),
    }
    attestations = _ethereum_topic(
        1 / 64,
        rate=validators / 64 / 32,
        first_decay=_EPOCH if often else 4 * _EPOCH,
        mesh_decay=(4 if often else 16) * _EPOCH,
        cap_factor=16.0,
        activation=17 * _SLOT if often else 3 * _EPOCH,
    )
    topics |= {f"beacon_attestation_{subnet}": attestations for subnet in range(64)}
    return {f"/eth2/{fork_digest}/{name}/ssz_snappy": params for name, params in topics.items()}


def _aggregates(validators: int, committees: int) -> float:
    """How many aggregates a slot is to have: of each committee about 16 of its members aggregate."""
    total = 32 * committees
    small = validators // total
    larger = validators - small * total
    members = (total - larger) * small / max(1, small // 16) + larger * (small + 1) / max(1, (small + 1) // 16)
    return members / 32


def _ethereum_topic(
    weight: float,
    *,
    rate: float,
    first_decay: float,
    mesh_decay: float | None = None,
    cap_factor: float = 0.0,
    activation: float = 0.0,
) -> TopicScoreParams:
    """A topic with `rate` messages a slot; mesh deliveries decay in `mesh_decay` seconds, or are not counted."""
    decay = decay_over(first_decay, interval=_SLOT)
    cap = _converges(decay, 2 * rate / ETHEREUM.d)
    params = TopicScoreParams(
        topic_weight=weight,
        time_in_mesh_quantum=_SLOT,
        time_in_mesh_cap=_HOUR / _SLOT,
        time_in_mesh_weight=10.0 / (_HOUR / _SLOT),
        first_message_deliveries_decay=decay,
        first_message_deliveries_cap=cap,
        first_message_deliveries_weight=40.0 / cap,
        invalid_message_deliveries_weight=-_ETHEREUM_BEST / weight,
        invalid_message_deliveries_decay=decay_over(50 * _EPOCH, interval=_SLOT),
    )
    if mesh_decay is None:
        return params
    decay = decay_over(mesh_decay, interval=_SLOT)
    threshold = _converges(decay, rate / 50) * decay
    return replace(
        params,
        mesh_message_deliveries_decay=decay,
        mesh_message_deliveries_threshold=threshold,
        mesh_message_deliveries_cap=max(2.0, cap_factor * threshold),
        mesh_message_deliveries_activation=activation,
        mesh_message_deliveries_window=2.0,
        mesh_message_deliveries_weight=-weight,
        mesh_failure_penalty_decay=decay,
        mesh_failure_penalty_weight=-weight,
    )


FILECOIN = GossipSubConfig(
    topic=TopicConfig(message_id=blake2b_of_data),
    max_topics_per_peer=100,
    validator_queue=256,
    gater=PeerGaterParams(),
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


def filecoin_gater(network: str, *drand: str) -> PeerGaterParams:
    """The gater of lotus, for a network such as `testnetnet` and the hashes of its drand chains."""
    weights = {f"/fil/blocks/{network}": 10.0, f"/fil/msgs/{network}": 1.0}
    return PeerGaterParams(topic_weights=weights | {_drand(chain): 5.0 for chain in drand})


def _drand(chain: str) -> str:
    return f"/drand/pubsub/v0.0.0/{chain}"


def filecoin_topics(network: str, *drand: str) -> dict[str, TopicScoreParams]:
    """How lotus scores the topics of blocks and messages of a network, such as `testnetnet` (which is the main one),
    and those of drand chains, by their hashes.
    """
    beacons = TopicScoreParams(
        topic_weight=0.5,
        time_in_mesh_weight=0.00027,
        time_in_mesh_cap=1.0,
        first_message_deliveries_weight=5.0,
        first_message_deliveries_decay=decay_over(_HOUR),
        first_message_deliveries_cap=25.0,
        invalid_message_deliveries_weight=-1000.0,
        invalid_message_deliveries_decay=decay_over(_HOUR),
    )
    return {
        **{_drand(chain): beacons for chain in drand},
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
