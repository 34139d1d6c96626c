"""Files that hold a secret: read only where nobody else can read or exchange them, written whole or not at all.

Rules, those of ssh's for its own files:
- The file is a regular one (at the end of symbolic links), is the user's or root's, and neither group nor others may
  do anything with it. The same of the directories above: nobody else may write there, unless they are sticky.
- What is written exists under no name before it is complete, where the system can do so (Linux's O_TMPFILE): a process
  that is killed leaves nothing behind. Elsewhere its temporary file has mode 0600, and the next write removes it.
- Nothing is overwritten without being told to, on file systems without hard links either.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from ..ground_errors import InvalidKey

_OPEN_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
_BINARY = getattr(os, "O_BINARY", 0)  # Windows


def read_secret(path: str | os.PathLike[str], *, max_size: int, allow_shared: bool = False) -> bytes:
    """The content of the file at `path`, of at most `max_size` bytes.

    Raises `InvalidKey` where it is larger or no regular file, and, unless `allow_shared`, where others could read or
    exchange it (not checked on Windows, whose modes say nothing); `OSError` where it cannot be read.
    """
    name = os.fspath(path)
    descriptor = os.open(path, os.O_RDONLY | _OPEN_FLAGS | _BINARY)  # who opens a FIFO waits for its writer otherwise
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidKey(f"key file {name} is no regular file")
        if os.name == "posix" and not allow_shared:
            _check_file(name, status)
            _check_directories(Path(path).resolve())
        content = file.read(max_size + 1)
    if len(content) > max_size:
        raise InvalidKey(f"key file {name} has more than {max_size} bytes")
    return content


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in (os.geteuid(), 0)


def _check_file(name: str, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if not _is_ours(status):
        raise InvalidKey(f"key file {name} belongs to the user {status.st_uid}; pass allow_shared=True to trust it")
    if mode & 0o077:
        raise InvalidKey(
            f"key file {name} has mode {mode:04o}: others can read or change it; `chmod 600` it, "
            "or pass allow_shared=True"
        )


def _check_directories(path: Path) -> None:
    for directory in path.parents:
        status = directory.stat()
        shared = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
        if shared or not _is_ours(status):
            raise InvalidKey(
                f"key file {path}: others can exchange it, since its directory {directory} has mode "
                f"{stat.S_IMODE(status.st_mode):04o} and the owner {status.st_uid}; or pass allow_shared=True"
            )


def write_secret(path: str | os.PathLike[str], content: bytes, *, overwrite: bool = False) -> None:
    """Write `content` to `path` with mode 0600.

    Raises `FileExistsError` where the file exists and `overwrite` is not set; `OSError` where it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = _open_nameless(path.parent)
    if descriptor is None:
        _write_by_name(path, temporary, content, overwrite=overwrite)
        return
    try:
        _fill(descriptor, content)
        if overwrite:
            temporary.unlink(missing_ok=True)
        named = _name(descriptor, temporary if overwrite else path)
    finally:
        os.close(descriptor)
    if not named:
        _write_by_name(path, temporary, content, overwrite=overwrite)
    elif overwrite:
        temporary.replace(path)


def _name(descriptor: int, path: Path) -> bool:
    """Give the file without a name one; whether that can be done here. Raises `FileExistsError`."""
    try:
        # With a directory given Python asks for the system call that can do so.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def _fill(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _open_nameless(directory: Path) -> int | None:
    """A new file without a name, which can get one; None where the system or the file system has no such files."""
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    if os.path.exists(f"/proc/self/fd/{descriptor}"):
        return descriptor
    os.close(descriptor)
    return None


def _write_by_name(path: Path, temporary: Path, content: bytes, *, overwrite: bool) -> None:
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    try:
        try:
            _fill(descriptor, content)
        finally:
            os.close(descriptor)
        if not overwrite:
            _claim(path, temporary)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _claim(path: Path, temporary: Path) -> None:
    """Give the file at `temporary` the name `path`, which nobody must have."""
    try:
        path.hardlink_to(temporary)  # with no moment between the look and the leap
    except FileExistsError:
        raise
    except OSError:
        # No hard links here: take the name first, then put the content in its place.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise
