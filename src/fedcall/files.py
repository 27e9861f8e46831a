"""Write files so that a reader sees the whole new file or none of it."""

import gzip
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from fedcall.errors import FedcallError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, on failure removed.

    The suffix of `path` is kept, because htslib and safetensors look at it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix="." + path.name)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; the final file gets the permissions the user's umask asks for.
        temporary.chmod(0o666 & ~_umask())
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        if error.filename is None:  # a write says what failed, and not where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def file_stamp(path: Path) -> tuple[int, int]:
    """Return what changes whenever a file is written: when it last was (ns), and its size (bytes)."""
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically and durably."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def replace_private(path: Path, content: bytes) -> None:
    """Write a file atomically, durably and for its owner alone, in a folder for its owner alone."""
    make_private_folder(path.parent)
    write_for_owner(path, content)


def write_for_owner(path: Path, content: bytes) -> None:
    """Write a file atomically, durably and for its owner alone (mode 0600 from its first byte)."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix="." + path.name)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
        sync(Path(name))
        os.replace(name, path)
        sync(path.parent)
    finally:
        Path(name).unlink(missing_ok=True)


def make_private_folder(folder: Path, mend: bool = True) -> None:
    """Make a folder, with those above it, that its owner alone may enter, whatever the umask.

    One that is there already, and open to others, is closed to them, unless not `mend`.

    Raises
    ------
    FedcallError
        If others may enter it and it is not ours to mend.
    """
    folder = Path(folder)
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
    mode = folder.stat().st_mode
    if mend and mode & 0o077:
        try:
            folder.chmod(0o700)
        except OSError:
            raise FedcallError(
                f"{folder}: mode {mode & 0o777:04o} lets others in, and it is not ours to change; have its owner run"
                f" 'chmod 700 {folder}'"
            ) from None


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically and durably, as UTF-8."""
    write_bytes(path, content.encode())


def open_binary(path: Path) -> BinaryIO:
    """Open a file, gzipped or not, for its bytes."""
    with open(path, "rb") as handle:
        is_gzipped = handle.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if is_gzipped else open(path, "rb")


def read_text(path: Path) -> str:
    """Return the text of a file that a person wrote, in UTF-8 with or without a byte order mark, with line ends `\\n`.

    Raises
    ------
    FedcallError
        If it is missing, or no UTF-8: names the encoding it seems to have, and the line.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise FedcallError(f"{path}: a file expected, found a folder") from None
    except OSError as error:
        raise FedcallError(f"{path}: cannot be read ({error.strerror})") from None
    return decode_text(path, content)


def decode_text(path: Path, content: bytes, lenient: bool = False) -> str:
    """Return what the bytes of a file spell; see `read_text`. If lenient, bytes that are no UTF-8 pass as they are."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or _every_other_is_zero(content[:200]):
        raise FedcallError(f'{path}: UTF-16 text ("Unicode text" of a spreadsheet); save it as UTF-8')
    if b"\0" in content:
        raise FedcallError(f"{path}: a text file is needed; found a zero byte, so this is a file of another kind")
    try:
        text = content.decode("utf-8-sig", "surrogateescape" if lenient else "strict")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FedcallError(
            f"{path}:{line}: not UTF-8 (byte 0x{content[error.start]:02x}; Latin-1 or Windows text?); save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _every_other_is_zero(start: bytes) -> bool:
    halves = start[::2], start[1::2]
    return any(len(half) > 0 and half.count(0) > 0.8 * len(half) for half in halves) and any(start)


def sync(path: Path) -> None:
    """Flush a file or folder to stable storage (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
