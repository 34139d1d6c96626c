"""Coverage-guided fuzzing by atheris of all parsers and of handshakes in place: `make fuzz`, or

    python tests/fuzz [--minutes M] [TARGET...]

Each target gets its part of the time, in a process of its own. It begins with its valid messages and with what is in
`corpus/`; what breaks is printed, and left as a file there, for `test_handshakes.py` to try from now on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent


def targets() -> dict:
    from fuzz_handshakes import HANDSHAKES
    from test_parsers import PARSERS

    return PARSERS | HANDSHAKES


def fuzz(name: str, seconds: int, fresh: str) -> None:
    """Fuzz one target in this process. Does not return."""
    import atheris

    with atheris.instrument_imports(include=["libp2p", "aioquic"], enable_loader_override=False):
        target, seeds, documented = targets()[name]
    for number, seed in enumerate(seeds):
        (Path(fresh) / f"seed{number}").write_bytes(seed)

    def one(data: bytes) -> None:
        with suppress(*documented):
            target(data)

    known = corpus(name)
    known.mkdir(exist_ok=True)
    arguments = [f"-max_total_time={seconds}", "-max_len=2048", "-timeout=10", "-rss_limit_mb=1024", "-verbosity=0"]
    atheris.Setup(
        [sys.argv[0], *arguments, "-print_final_stats=1", f"-artifact_prefix={known}/", fresh, str(known)], one
    )
    atheris.Fuzz()


def corpus(name: str) -> Path:
    return HERE / "corpus" / name.replace(" ", "_")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/fuzz", description="Fuzz parsers and handshakes, guided by coverage.")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together (default 10)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--fresh", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", help="default: all")
    options = parser.parse_args()
    if options.one:
        fuzz(options.one, max(1, round(options.minutes * 60)), options.fresh)
    names = options.targets or list(targets())
    broken = []
    for name in names:
        with tempfile.TemporaryDirectory() as fresh:
            command = [sys.executable, str(HERE), "--one", name, "--fresh", fresh]
            share = options.minutes / len(names)
            done = subprocess.run([*command, "--minutes", str(share)], capture_output=True, text=True, check=False)
        stats = dict(line.split(":")[-2:] for line in done.stderr.splitlines() if line.startswith("stat::"))
        runs = stats.get("number_of_executed_units", "?").strip()
        print(f"{name:30} {runs:>10} runs  {'ok' if not done.returncode else 'BROKEN'}", flush=True)
        if done.returncode:
            broken.append(name)
            print(done.stdout[-2000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        elif not any(corpus(name).iterdir()):
            corpus(name).rmdir()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.exit(main())
