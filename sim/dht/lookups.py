"""How lookups do: in a healthy network, then with 30 % of its servers dead and 10 % silent, all at the same moment.

Dead servers vanish without a word: connections to them hang, dials to them are never answered. Silent ones go on to
take connections and streams, and never answer. `at once` is the time right behind that, when everybody still names
everybody; `an hour later` every table has been filled again once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from bench.simulation import Meter

from libp2p.errors import RoutingError

from .network import Dhts, Found, dhts, percentile
from .outcome import Outcome

_HEADER = ["", "found", "hops p50 / p90", "requests p50 / p90", "seconds p50 / p90", "18 of the nearest 20"]


async def healthy(nodes: int, lookups: int, hops: int) -> Outcome:
    """Only lookups, in a network of `nodes`, of which 90 % shall take at most `hops`."""
    outcome = Outcome(f"lookups-{nodes}", f"Lookups among {nodes:,} servers", header=_HEADER)
    meter = Meter.start()
    async with dhts(nodes) as network:
        _cost(outcome, network, meter)
        await _healthy(outcome, network, lookups, hops)
    return outcome


async def dead_and_silent(nodes: int, lookups: int, hops: int) -> Outcome:
    """The same, then among dead and silent ones; values were put before."""
    outcome = Outcome(f"dead-{nodes}", f"Among {nodes:,} servers: 30 % dead, 10 % silent", header=_HEADER)
    meter = Meter.start()
    async with dhts(nodes) as network:
        _cost(outcome, network, meter)
        keys = await put_values(network, lookups)
        before = await _healthy(outcome, network, lookups, hops)
        _, before_gets = await get_values(network, keys)
        outcome.rows.append(_value_row("values, healthy", len(keys), len(keys), before_gets))
        victims = network.sample(0.4)
        silent = len(victims) // 4
        network.silence(victims[:silent])
        await network.kill(victims[silent:])
        for when in ("at once", "an hour later"):
            if when != "at once":
                await network.refreshed()
            found, seconds = await get_values(network, keys)
            outcome.rows.append(_value_row(f"values, {when}", found, len(keys), seconds))
            after = await network.look_up_many(lookups, when)
            outcome.rows.append(_row(f"lookups, {when}", after))
            outcome.curves[when] = [one.seconds for one in after]
            good = sum(one.known >= 18 for one in after)
            outcome.want(
                f"{when}: the value, or 18 of the live nearest 20, in 99 %",
                f"values {found / len(keys):.1%}, lookups {good / len(after):.1%}",
                found >= 0.99 * len(keys) and good >= 0.99 * len(after),
            )
            ratio = _p90(after) / _p90(before)
            value_ratio = percentile(seconds, 90) / percentile(before_gets, 90)
            outcome.want(
                f"{when}: p90 of the time at most 3 times the healthy one",
                f"lookups {ratio:.1f}, values {value_ratio:.1f}",
                max(ratio, value_ratio) <= 3,
            )
    return outcome


async def unresponsive(nodes: int, records: int) -> Outcome:
    """60 % of the servers answer nothing any more: what was stored before is found."""
    outcome = Outcome("unresponsive", f"Among {nodes:,} servers: 60 % unresponsive", header=_HEADER)
    async with dhts(nodes) as network:
        await network.refreshed()
        keys = await put_values(network, records)
        _, before = await get_values(network, keys)
        outcome.rows.append(_value_row("values, healthy", len(keys), len(keys), before))
        network.silence(network.sample(0.6))
        for when in ("at once", "an hour later"):
            if when != "at once":
                await network.refreshed()
            found, seconds = await get_values(network, keys)
            outcome.rows.append(_value_row(f"values, {when}", found, len(keys), seconds))
            outcome.curves[when] = seconds
            outcome.want(f"{when}: all values found", f"{found} of {len(keys)}", found == len(keys))
    outcome.axis = "seconds until a value was found, and the nearest had answered"
    return outcome


async def put_values(network: Dhts, count: int) -> list[bytes]:
    """Put values from servers at random; their keys."""
    keys = [b"/v/%d" % n for n in range(count)]
    for key in keys:
        await network.any().put_value(key, b"value of " + key)
    return keys


async def get_values(network: Dhts, keys: Sequence[bytes]) -> tuple[int, list[float]]:
    """Get each from a server at random; how many were found, and how long each search took."""
    found, seconds = 0, []
    for key in keys:
        began = network.now()
        with suppress(RoutingError):
            found += await network.any().get_value(key) == b"value of " + key
        seconds.append(network.now() - began)
    return found, seconds


async def _healthy(outcome: Outcome, network: Dhts, lookups: int, hops: int) -> list[Found]:
    meter = Meter.start()
    await network.refreshed()
    each = meter.ms(len(network.live))
    outcome.rows.append(["an hour", f"{each:.0f} ms of CPU for each server", *[""] * 4])
    found = await network.look_up_many(lookups, "healthy")
    outcome.rows.append(_row("lookups, healthy", found))
    outcome.curves["healthy"] = [one.seconds for one in found]
    outcome.axis = "seconds of a lookup"
    p90 = percentile([one.hops for one in found], 90)
    outcome.want(f"hops p90 at most {hops} among {len(network.live):,}", f"{p90:g}", p90 <= hops)
    return found


def _cost(outcome: Outcome, network: Dhts, meter: Meter) -> None:
    count = len(network.live)
    memory, cpu = meter.kib(count), meter.ms(count)
    outcome.want("memory and CPU of each server", f"{memory:.0f} KiB; {cpu:.0f} ms to join", True)
    tables = sum(len(dht.table) for dht in network.sim.services) / count
    outcome.rows.append(["joining", f"{cpu:.0f} ms, {memory:.0f} KiB, tables of {tables:.0f}", *[""] * 4])


def _p90(found: Sequence[Found]) -> float:
    return percentile([one.seconds for one in found], 90)


def _row(what: str, found: Sequence[Found]) -> list[str]:
    hops, requests, seconds = (
        [one.hops for one in found],
        [one.requests for one in found],
        [one.seconds for one in found],
    )
    return [
        what,
        "",
        f"{percentile(hops, 50):g} / {percentile(hops, 90):g}",
        f"{percentile(requests, 50):.0f} / {percentile(requests, 90):.0f}",
        f"{percentile(seconds, 50):.2f} / {percentile(seconds, 90):.2f}",
        f"{sum(one.known >= 18 for one in found) / len(found):.1%}",
    ]


def _value_row(what: str, found: int, count: int, seconds: Sequence[float]) -> list[str]:
    times = f"{percentile(seconds, 50):.2f} / {percentile(seconds, 90):.2f}"
    return [what, f"{found} of {count}", "", "", times, ""]
