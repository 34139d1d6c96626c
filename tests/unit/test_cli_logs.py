"""`--log`: which levels and parts, and what it prints."""

import logging
from collections.abc import Iterator

import pytest

pytest.importorskip("typer")

from libp2p.cli import logs
from libp2p.errors import InvalidInput


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    names = ["libp2p", "libp2p.swarm", "libp2p.protocols.kad"]
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    root = logging.getLogger("libp2p")
    handlers, propagate = list(root.handlers), root.propagate
    yield
    for logger, level in before:
        logger.setLevel(level)
    root.handlers[:], root.propagate = handlers, propagate


def test_parts_have_levels_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning,swarm=debug")
    logging.getLogger("libp2p.swarm.dialer").debug("one")
    logging.getLogger("libp2p.protocols.kad").info("two")
    logging.getLogger("libp2p.protocols.kad").warning("three \x1b[31m")
    said = capsys.readouterr().err
    assert "DEBUG libp2p.swarm.dialer: one" in said
    assert "two" not in said
    assert "three \N{REPLACEMENT CHARACTER}[31m" in said


@pytest.mark.parametrize("text", ["", "loud", "swarm=", "info,kad=loud"])
def test_what_is_no_level(text: str) -> None:
    with pytest.raises(InvalidInput, match="--log takes"):
        logs.configure(text)
