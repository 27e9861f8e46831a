"""The database under a ledger: opened durably, or to look at only, and its transactions."""

import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedcall.errors import FedcallError, PrivacyRefusal, no_room
from fedcall.files import make_private_folder
from fedcall.privacy.ledger import chain as ledger_chain

BUSY_SECONDS = 60
_ROOM_BYTES = 256 * 1024  # what SQLite lays beside an open ledger


def connect(path: Path) -> sqlite3.Connection:
    """Open a ledger's database for writing, creating it (mode 0600) if there is none.

    Raises
    ------
    FedcallError
        If the file is no ledger, or its folder cannot be written.
    """
    try:
        make_private_folder(path.parent, mend=False)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
        database = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
        _use_wal(database)
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(ledger_chain.SCHEMA)
    except (OSError, sqlite3.Error) as error:
        full = _no_room_for(path, error)
        raise full or FedcallError(f"{path}: cannot be opened as a ledger ({error})") from None
    return database


def _no_room_for(path: Path, error: Exception) -> FedcallError | None:
    """Return that the disk is full: SQLite says "disk I/O error" where the files beside a ledger find no room."""
    told = no_room(error)
    if told is None and isinstance(error, sqlite3.Error) and shutil.disk_usage(path.parent).free < _ROOM_BYTES:
        return no_room(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)))
    return told


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open the database of an existing ledger; nothing can be written."""
    if not path.is_file():
        raise FedcallError(f"{path}: no such ledger; the first round makes it (before one: 'fedcall privacy plan')")
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        database = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
        database.execute("SELECT 1 FROM rows, cohorts LIMIT 1")
    except sqlite3.Error as error:
        raise FedcallError(f"{path}: not a ledger of fedcall ({error})") from None
    return database


@contextmanager
def transaction(database: sqlite3.Connection, path: Path, mode: str = "IMMEDIATE") -> Iterator[None]:
    """Hold the write lock (or, DEFERRED, one view of the database); other processes wait for up to a minute."""
    try:
        database.execute(f"BEGIN {mode}")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
    except sqlite3.DatabaseError as error:
        raise PrivacyRefusal(f"{path}: the ledger cannot be used now ({error})") from None
    except OSError as error:
        raise FedcallError(
            f"{error.filename or path}: {error.strerror}; make room and run again, nothing is charged twice"
        ) from None


def _use_wal(database: sqlite3.Connection) -> None:
    # The switch to WAL does not wait for other processes by itself (https://sqlite.org/wal.html, section 2.1).
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
