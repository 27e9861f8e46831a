"""A tree of files in memory, and the initramfs that the kernel unpacks: the same tree gives the same bytes.

Format: "initramfs buffer format" of the kernel's documentation (cpio, "newc"). Everything is root's, of time zero, in
the order of names; nothing of the machine that builds goes in.
"""

import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from fedcall.errors import FedcallError

_LINK = stat.S_IFLNK | 0o777
_FOLDER = stat.S_IFDIR | 0o755


@dataclass(frozen=True)
class Entry:
    """A file, folder or symbolic link: its mode (stat(2)), and its content or where it points."""

    mode: int
    content: bytes = b""


@dataclass
class Tree:
    """Files by path without a leading slash; folders above them are there by themselves."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def file(self, path: str, content: bytes, is_executable: bool = False) -> None:
        """Add a file, readable by all."""
        self._add(path, Entry(stat.S_IFREG | (0o755 if is_executable else 0o644), content))

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(path, Entry(_LINK, target.encode()))

    def folder(self, path: str) -> None:
        """Add an empty folder."""
        self._add(path, Entry(_FOLDER))

    def files(self) -> Iterator[tuple[str, Entry]]:
        """Yield paths and entries, folders before what they hold."""
        folders = {
            folder: Entry(_FOLDER)
            for path in self.entries
            for folder in _above(path)
            if not stat.S_ISLNK(self.entries.get(folder, Entry(_FOLDER)).mode)
        }
        yield from sorted({**folders, **self.entries}.items())

    def _add(self, path: str, entry: Entry) -> None:
        clean = posixpath.normpath(path)
        if clean.startswith(("/", "..")) or clean == ".":
            raise FedcallError(f"{path}: no path inside an image")
        before = self.entries.get(clean)
        if before is not None and before != entry and not (stat.S_ISDIR(before.mode) and stat.S_ISDIR(entry.mode)):
            raise FedcallError(f"{clean}: two packages bring it, with different contents; keep one of them")
        self.entries[clean] = entry


def initramfs(tree: Tree) -> bytes:
    """Return a tree as the kernel unpacks it, not compressed."""
    parts: list[bytes] = []
    for number, (path, entry) in enumerate(tree.files(), start=1):
        parts += _record(number, path, entry)
    parts += _record(0, "TRAILER!!!", Entry(0))
    whole = b"".join(parts)
    return whole + bytes(-len(whole) % 512)


def _record(number: int, path: str, entry: Entry) -> list[bytes]:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    numbers = (number, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in numbers) + name
    return [head, bytes(-len(head) % 4), entry.content, bytes(-len(entry.content) % 4)]


def _above(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path
