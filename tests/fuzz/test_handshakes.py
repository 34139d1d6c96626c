"""Handshakes in place, with fixed seeds, and what coverage-guided fuzzing has found worth keeping (see __main__.py)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz_handshakes import HANDSHAKES
from test_parsers import PARSERS, broken

CASES = {"tls certificate in place": 60, "quic certificate in place": 40, "noise payload in place": 60, "pem": 200}
CORPUS = Path(__file__).parent / "corpus"
TARGETS = PARSERS | HANDSHAKES


def check(name: str, data: bytes) -> None:
    """Only the errors that the target documents come out of it."""
    target, _, documented = TARGETS[name]
    try:
        target(data)
    except documented:
        pass
    except Exception as error:
        error.add_note(f"{name}: {data.hex()}")
        raise


@pytest.mark.filterwarnings("ignore")  # `cryptography` warns of odd certificates
@pytest.mark.parametrize("name", HANDSHAKES)
def test_only_documented_errors_come_out(name: str) -> None:
    target, seeds, _ = HANDSHAKES[name]
    for seed in seeds:
        target(seed)
    for case in range(CASES.get(name, 400)):
        check(name, broken(random.Random(f"{name} {case}"), seeds))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.iterdir()))
def test_corpus(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert files
    for file in files:
        check(name.replace("_", " "), file.read_bytes())
