"""The implementations that are measured, made ready to run: ours, also as it was at another revision; the older Python
`libp2p` (pip), js-libp2p (npm), go-libp2p (built by `interop`), and aioquic, which is there with ours.

What is installed is installed once, each in a folder of its own below `${XDG_CACHE_HOME:-~/.cache}/py-libp2p-bench`:

    py-<hash>      a virtual environment of interop/py/requirements.txt; its package has the same import name as ours
    js-<hash>      node_modules by interop/js/package-lock.json (on Linux x64 with a Node), and a copy of the peer
    rev-<commit>   `src` of that commit

The hash is that of the lock file; a folder without the file `.done` is one whose installation was cut short.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

from interop.build import BuildError, build_go

ROOT = Path(__file__).resolve().parent.parent
SETUP_TIME_LIMIT = 900.0  # seconds that one download may take
_PIP_SETTINGS = {"PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"}  # of our own environment; they would clash with the other's


class SetupError(Exception):
    """An implementation cannot be made ready here."""


@dataclass(frozen=True, slots=True)
class Implementation:
    """How to run one."""

    version: str
    peer: tuple[str, ...]
    """The command that `listen` or `dial ...` is added to."""
    imports: tuple[str, ...]
    """The command that prints the seconds which its import takes; empty: that is not measured."""
    folder: Path
    """Where both run."""
    env: dict[str, str]
    hub: tuple[str, ...] = ()
    """The command of its commanded pubsub node (interop/README.md), which options are added to."""


Prepare: TypeAlias = Callable[[], Implementation]
"""Makes one ready. Raises `SetupError`."""


def ours() -> Implementation:
    """This package, on the interpreter that runs the benchmark."""
    try:
        version = _run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], dict(os.environ))
    except SetupError:
        version = "(no git: commit unknown)"
    return _ours(version, ROOT / "src")


def revision(name: str) -> Implementation:
    """This package as it was at the git revision `name`: the peer of today runs on the library of then, on the same
    interpreter with the same dependencies. Raises `SetupError`.
    """
    git = ["git", "-C", str(ROOT)]
    commit = _run([*git, "rev-parse", "--verify", f"{name}^{{commit}}"], dict(os.environ))[:12]
    with _folder(f"rev-{commit}", f"src of {name}") as (folder, needed):
        if needed:
            archive = folder / "src.tar"
            _run([*git, "archive", "--output", str(archive), commit, "src"], dict(os.environ))
            shutil.unpack_archive(archive, folder, filter="data")
            archive.unlink()
    return _ours(commit, folder / "src")


def _ours(version: str, source: Path) -> Implementation:
    """The package below `source`, which is found there before any that is installed."""
    return Implementation(
        version=f"py-libp2p {version}",
        peer=(sys.executable, "-m", "bench.peer"),
        imports=(sys.executable, "-c", _timed_import("Host")),
        folder=ROOT,
        env={**os.environ, "PYTHONPATH": str(source)},
        hub=(sys.executable, "-m", "bench.pubsub_hub"),
    )


def older_py() -> Implementation:
    """The package `libp2p` of PyPI."""
    folder = ROOT / "interop" / "py"
    requirements = folder / "requirements.txt"
    env = {name: value for name, value in os.environ.items() if name[:6] != "PYTHON" and name not in _PIP_SETTINGS}
    with _installed("py", requirements) as (venv, needed):
        python = str(venv / "bin" / "python")
        if needed:
            _run([sys.executable, "-m", "venv", str(venv)], env)
            _run([python, "-m", "pip", "install", "--quiet", "--requirement", str(requirements)], env)
    version = next(line for line in requirements.read_text().splitlines() if line.startswith("libp2p=="))
    return Implementation(
        version=version.replace("==", " "),
        peer=(python, "peer.py"),
        imports=(python, "-c", _timed_import("new_host")),
        folder=folder,
        env=env,
        hub=(python, "pubsubnode.py"),
    )


def js() -> Implementation:
    """js-libp2p, on the Node that npm brought, else on that of the machine."""
    source = ROOT / "interop" / "js"
    env = dict(os.environ)
    with _installed("js", source / "package-lock.json") as (folder, needed):
        if needed:
            if (npm := shutil.which("npm")) is None:
                raise SetupError("npm is not on the PATH")
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(source / name, folder)
            _run([npm, "ci", "--silent", "--prefix", str(folder)], env)
    for name in ("peer.mjs", "pubsubnode.mjs"):
        shutil.copy(source / name, folder)  # they find their modules beside themselves
    brought = folder / "node_modules" / ".bin" / "node"
    node = str(brought) if brought.exists() else "node"
    names = ("libp2p", "@libp2p/tcp", "@libp2p/noise", "@libp2p/yamux", "@libp2p/identify", "@libp2p/ping")
    imports = "".join(f"await import('{name}');" for name in names)
    script = f"const start = performance.now(); {imports} console.log((performance.now() - start) / 1000)"
    version = json.loads((folder / "node_modules" / "libp2p" / "package.json").read_text())["version"]
    return Implementation(
        version=f"js-libp2p {version} on Node {_run([node, '--version'], env)}",
        peer=(node, "peer.mjs"),
        imports=(node, "--input-type=module", "--eval", script),
        folder=folder,
        env=env,
        hub=(node, "pubsubnode.mjs"),
    )


def go() -> Implementation:
    """go-libp2p: the peer of interop, built where it is built for that."""
    try:
        (peer,) = build_go()
    except BuildError as error:
        raise SetupError(str(error)) from error
    modules = (ROOT / "interop" / "go" / "go.mod").read_text().split()
    return Implementation(
        version=f"go-libp2p {modules[modules.index('github.com/libp2p/go-libp2p') + 1]}",
        peer=(peer, "bench"),
        imports=(),
        folder=ROOT,
        env={**os.environ, "SECURE_CHANNEL": "noise", "MUXER": "yamux"},
        hub=(peer, "pubsub"),
    )


def plain_aioquic() -> Implementation:
    """The package that our QUIC is built on, alone."""
    try:
        version = metadata.version("aioquic")
    except metadata.PackageNotFoundError as error:
        raise SetupError("aioquic is not installed") from error
    return Implementation(
        version=f"aioquic {version}",
        peer=(sys.executable, "-m", "bench.aioquic_peer"),
        imports=(),
        folder=ROOT,
        env=dict(os.environ),
    )


def grpc() -> Implementation:
    """gRPC for asyncio, which requests are compared with."""
    try:
        version = metadata.version("grpcio")
    except metadata.PackageNotFoundError as error:
        raise SetupError("grpcio is not installed: pip install --group bench") from error
    return _requests_peer("grpc", f"grpcio {version}")


def asyncio_tls() -> Implementation:
    """asyncio's TLS with numbered frames by hand: the floor of requests."""
    return _requests_peer("asyncio", f"asyncio TLS of Python {sys.version.split()[0]}")


def _requests_peer(kind: str, version: str) -> Implementation:
    peer = (sys.executable, "-m", "bench.requests_peer", kind)
    return Implementation(version=version, peer=peer, imports=(), folder=ROOT, env=dict(os.environ))


IMPLEMENTATIONS: dict[str, Prepare] = {
    "ours": ours,
    "older py": older_py,
    "js": js,
    "go": go,
    "aioquic": plain_aioquic,
    "grpc": grpc,
    "asyncio tls": asyncio_tls,
}
"""What makes each ready."""


def _timed_import(name: str) -> str:
    return f"import time; start = time.perf_counter(); from libp2p import {name}; print(time.perf_counter() - start)"


@contextmanager
def _installed(name: str, lock: Path) -> Iterator[tuple[Path, bool]]:
    """The folder of what the lock file names."""
    locked = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    with _folder(f"{name}-{locked}", f"what {lock.relative_to(ROOT)} names") as found:
        yield found


@contextmanager
def _folder(name: str, contents: str) -> Iterator[tuple[Path, bool]]:
    """The folder of an installation, and whether it is still to be made, which the block then does."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "py-libp2p-bench" / name
    done = folder / ".done"
    if done.exists():
        yield folder, False
        return
    print(f"installing {contents} into {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder, True
    done.touch()


def _run(command: list[str], env: dict[str, str]) -> str:
    try:
        return subprocess.run(
            command, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=SETUP_TIME_LIMIT
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(f"setting up failed: {error}") from error
