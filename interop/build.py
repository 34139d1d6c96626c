"""Builds each peer once; what its files' contents have not changed for is taken from the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "py-libp2p-interop"

Command = tuple[str, ...]


class BuildError(Exception):
    """A peer can't be built; says what is missing or went wrong."""


def need(program: str, hint: str) -> str:
    """Where `program` is. Raises `BuildError` where the machine has none."""
    if found := shutil.which(program):
        return found
    raise BuildError(f"{program} is missing: {hint}")


def run(command: Sequence[str | Path], cwd: Path, **env: str) -> None:
    """Run a step of a build, at low priority; raises `BuildError` with the end of what it said."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PIP_CONSTRAINT")}
    lowered = ["nice", "-n", "19", *map(str, command)]
    done = subprocess.run(lowered, cwd=cwd, env={**inherited, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise BuildError(f"{' '.join(map(str, command))} in {cwd} failed:\n{said}")


def content_hash(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in paths:
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def sources(folder: str, *patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in (HERE / folder).glob(pattern))


def build_go() -> Command:
    go = need("go", "install Go 1.26 or newer")
    peer = CACHE / f"go-{content_hash(sources('go', '*.go', 'go.*'))}"
    if not peer.exists():
        run([go, "build", "-p", "2", "-trimpath", "-ldflags=-s -w", "-o", peer, "."], HERE / "go")
    return (str(peer),)


def build_rust() -> Command:
    cargo = need("cargo", "install Rust 1.88 or newer")
    peer = CACHE / f"rust-{content_hash(sources('rust', 'Cargo.*', 'src/*.rs'))}"
    if not peer.exists():
        target = CACHE / "rust-target"
        command = [cargo, "build", "--release", "--locked", "--quiet"]
        run(command, HERE / "rust", CARGO_TARGET_DIR=str(target), CARGO_BUILD_JOBS="2")
        shutil.copy(target / "release" / "peer", peer)
    return (str(peer),)


def build_js() -> Command:
    npm = need("npm", "install Node.js; from 20 on it will do, a newer one comes with the packages")
    folder = CACHE / f"js-{content_hash(sources('js', 'package*.json', '.npmrc'))}"
    programs = sources("js", "*.mjs")
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in sources("js", "package*.json", ".npmrc"):
            shutil.copy(path, folder)
        run([npm, "ci"], folder)
        (folder / "complete").touch()
    for path in programs:
        shutil.copy(path, folder)
    bundled = folder / "node_modules" / ".bin" / "node"
    node = str(bundled) if bundled.exists() else need("node", "install Node.js 22 or newer")
    return (node, str(folder / "interop.mjs"))


def build_py() -> Command:
    folder = CACHE / f"py-{content_hash(sources('py', 'requirements.txt'))}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", folder], HERE)
        run([python, "-m", "pip", "install", "--quiet", "-r", "requirements.txt"], HERE / "py")
        (folder / "complete").touch()
    return (str(python), str(HERE / "py" / "interop.py"))


def build_us() -> Command:
    return (sys.executable, str(HERE / "us" / "peer.py"))


BUILDS = {"us": build_us, "go": build_go, "rust": build_rust, "js": build_js, "py": build_py}


def build(implementation: str) -> Command:
    """The command that runs this peer, built if need be. Raises `BuildError`."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return BUILDS[implementation]()
