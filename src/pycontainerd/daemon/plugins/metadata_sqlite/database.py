"""One SQLite file: one writer thread with group commit, readers beside it.

Every write runs on the writer thread inside BEGIN IMMEDIATE ... COMMIT with synchronous=FULL, so that what a client
was told survives any kill. Writes that wait together share one commit, each behind its own savepoint. A write that is
asked for from inside a write joins it. A read sees everything that was committed before it began.

Spec: sqlite.org/wal.html, sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import queue
import sqlite3
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from pycontainerd.daemon.plugins.metadata_sqlite import schema
from pycontainerd.lib import trace
from pycontainerd.lib.errdefs import DataLoss, FailedPrecondition, ResourceExhausted, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
BATCH_LIMIT: Final = 64
_DAMAGED: Final = (
    "stop the daemon and run `pycontainerd --root FOLDER db check --repair`, or put a copy of the file back"
)


class Transaction:
    """What a read or write function gets: queries, and notes about what it removed."""

    __slots__ = ("_connection", "dirty")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.dirty: set[str] = set()

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        """All rows at once: no cursor outlives the statement, so no reader holds the log back."""
        return self._connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, *parameters: Any) -> Any | None:
        """The first row, or None."""
        return self._connection.execute(sql, parameters).fetchone()

    def execute(self, sql: str, *parameters: Any) -> int:
        """Runs a change; the number of rows it touched."""
        return self._connection.execute(sql, parameters).rowcount

    def next_number(self, sequence: str) -> int:
        """The next number of a named sequence, from 1; numbers of failed writes are given out again."""
        row = self.row(
            "INSERT INTO sequences VALUES (?, 1) ON CONFLICT(name) DO UPDATE SET value = value + 1 RETURNING value",
            sequence,
        )
        assert row is not None
        return int(row[0])

    def ensure_namespace(self, name: str) -> None:
        """Namespaces come into being with their first object."""
        self.execute("INSERT OR IGNORE INTO namespaces (name) VALUES (?)", name)

    def mark_dirty(self, resource: str) -> None:
        """Something became garbage: content, or a snapshotter's name, or "" for references only."""
        self.dirty.add(resource)


class _Reader:
    """One thread's connection. The lock is held by a read, and by who closes it: SQLite's memory outlives no close."""

    __slots__ = ("connection", "lock")

    def __init__(self, path: str) -> None:
        self.connection = _connect(path)
        self.connection.execute("PRAGMA query_only=1")
        self.lock = threading.Lock()


class Database:
    """Open with `Database(path)`; `close()` once, last."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()
        self._readers: list[_Reader] = []
        self._readers_lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer_ident = 0
        self._current: Transaction | None = None
        self._listeners: list[Callable[[set[str]], None]] = []
        self._closed = False
        ready: Future[bool] = Future()
        self._thread = threading.Thread(target=self._write_loop, args=(ready,), name="metadata-writer")
        self._thread.start()
        self.was_clean = ready.result()

    def on_commit(self, listener: Callable[[set[str]], None]) -> None:
        """Called on the writer thread after every commit with what became garbage."""
        self._listeners.append(listener)

    def write(self, change: Callable[[Transaction], T]) -> T:
        """Runs `change` on the writer thread and returns when it is on disk. Its exception rolls it back."""
        if threading.get_ident() == self._writer_ident:
            assert self._current is not None
            return change(self._current)
        self._require_open()
        job = _Job(change)
        with trace.span("metadata.write"):
            self._jobs.put(job)
            result: T = job.future.result()
            return result

    def read(self, query: Callable[[Transaction], T]) -> T:
        """Runs `query` against one snapshot of the data, on the calling thread."""
        if threading.get_ident() == self._writer_ident:
            assert self._current is not None
            return query(self._current)
        reader = self._reader()
        connection = reader.connection
        with reader.lock:
            self._require_open()
            connection.execute("BEGIN")
            try:
                return query(Transaction(connection))
            finally:
                connection.execute("COMMIT")

    def check(self) -> None:
        """The full check of the file; DataLoss names the first problem."""
        reader = self._reader()
        with reader.lock:
            self._require_open()
            problem = reader.connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if problem != "ok":
            raise DataLoss(f"metadata database {self._path}: {problem}: data loss")

    def close(self) -> None:
        """Finishes waiting writes and reads under way, and marks the stop as clean; what comes later is Unavailable."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(_Job(lambda tx: tx.execute("REPLACE INTO settings VALUES ('clean', 1)")))
        self._jobs.put(None)
        self._thread.join()
        with self._readers_lock:
            readers = tuple(self._readers)
        for reader in readers:
            with reader.lock:
                reader.connection.close()

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("metadata store is closed: unavailable")

    def _reader(self) -> _Reader:
        reader: _Reader | None = getattr(self._local, "reader", None)
        if reader is None:
            with self._readers_lock:
                self._require_open()
                reader = _Reader(self._path)
                self._readers.append(reader)
            self._local.reader = reader
        return reader

    def _write_loop(self, ready: Future[bool]) -> None:
        self._writer_ident = threading.get_ident()
        try:
            connection, was_clean = _open(self._path)
        except BaseException as e:  # noqa: BLE001 -- handed to the thread that waits for it
            ready.set_exception(e)
            return
        ready.set_result(was_clean)
        stopping = False
        while not stopping:
            batch: list[_Job] = []
            job = self._jobs.get()
            while job is not None and len(batch) < BATCH_LIMIT:
                batch.append(job)
                if self._jobs.empty():
                    break
                job = self._jobs.get()
            if job is None:
                stopping = True
            elif job not in batch:
                batch.append(job)
            if batch:
                self._run_batch(connection, batch)
        connection.close()

    def _run_batch(self, connection: sqlite3.Connection, batch: list[_Job]) -> None:
        """One commit for all jobs of the batch; a job that raises takes only its own changes back."""
        dirty: set[str] = set()
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                dirty |= self._run_job(connection, job)
            connection.execute("COMMIT")
        except sqlite3.Error as e:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = _translate(self._path, e)
            for job in batch:
                job.fail(failure)
            return
        for job in batch:
            job.finish()
        for listener in self._listeners:
            listener(dirty)

    def _run_job(self, connection: sqlite3.Connection, job: _Job) -> set[str]:
        connection.execute("SAVEPOINT job")
        self._current = Transaction(connection)
        try:
            job.result = job.context.run(job.change, self._current)
        except sqlite3.OperationalError:
            raise  # a full or broken disk concerns the whole batch
        except BaseException as e:  # noqa: BLE001 -- handed to the thread that waits for it
            connection.execute("ROLLBACK TO job")
            job.error = e
            return set()
        else:
            return self._current.dirty
        finally:
            self._current = None
            if connection.in_transaction:
                connection.execute("RELEASE job")


class _Job:
    """A change that waits for the writer."""

    __slots__ = ("change", "context", "error", "future", "result")

    def __init__(self, change: Callable[[Transaction], Any]) -> None:
        self.change = change
        self.context = contextvars.copy_context()  # spans of the change belong to who asked for it
        self.future: Future[Any] = Future()
        self.result: Any = None
        self.error: BaseException | None = None

    def finish(self) -> None:
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)

    def fail(self, failure: BaseException) -> None:
        self.future.set_exception(self.error or failure)


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys=1")
    return connection


def _open(path: str) -> tuple[sqlite3.Connection, bool]:
    """The writer's connection and whether the last stop was clean; makes the schema, or brings an older one up to date."""
    refuse_others(path)
    try:
        connection = _connect(path)
    except sqlite3.Error as e:
        raise _translate(path, e) from e
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        if _schema_version(connection) == 0:
            _create(connection)
            connection.execute("COMMIT")
            return connection, True
        migrate(connection)
        connection.execute("COMMIT")
        clean = connection.execute("SELECT value FROM settings WHERE key='clean'").fetchone()
        was_clean = bool(clean and clean[0])
        if not was_clean:
            _quick_check(connection, path)
        connection.execute("REPLACE INTO settings VALUES ('clean', 0)")
    except sqlite3.DatabaseError as e:
        connection.close()
        raise _translate(path, e) from e
    except BaseException:
        connection.close()
        raise
    return connection, was_clean


def refuse_others(path: str) -> None:
    """FailedPrecondition for a database of a newer daemon or of another program, of which not a byte is changed."""
    if not os.path.exists(path):
        return
    # Without a log beside it a database is read without the lock files that SQLite would leave.
    whole = "" if os.path.exists(f"{path}-wal") else "&immutable=1"
    try:
        address = f"file:{quote(path)}?mode=ro{whole}"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            version = _schema_version(connection)
    except sqlite3.Error:
        return  # damaged: the one who opens it says how
    if version is None:
        raise FailedPrecondition(
            f"{path} is a database without a schema version, not a daemon's metadata: failed precondition",
            hint="move it away, or give the daemon another --root",
        )
    if version > schema.VERSION:
        raise FailedPrecondition(
            f"metadata database {path} has schema version {version}, "
            f"this daemon knows {schema.VERSION}: failed precondition",
            hint="start the daemon that wrote it, or another --root",
        )


def migrate(connection: sqlite3.Connection) -> None:
    """Brings an older schema up to date inside the caller's transaction: all of it, or nothing."""
    version = _schema_version(connection)
    assert version is not None, "refused before"
    for number in range(version + 1, schema.VERSION + 1):
        for statement in schema.MIGRATIONS[number]:
            connection.execute(statement)
    if version != schema.VERSION:
        connection.execute("REPLACE INTO settings VALUES ('schema_version', ?)", (schema.VERSION,))


def _schema_version(connection: sqlite3.Connection) -> int | None:
    """0 for a database without any table, None for one of something else."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not names:
        return 0
    if "settings" not in names:
        return None
    row = connection.execute("SELECT value FROM settings WHERE key='schema_version'").fetchone()
    return row[0] if row and isinstance(row[0], int) and row[0] > 0 else None


def _create(connection: sqlite3.Connection) -> None:
    for statement in schema.TABLES.values():
        connection.execute(statement)
    connection.execute("INSERT INTO settings VALUES ('schema_version', ?), ('clean', 0)", (schema.VERSION,))


def _quick_check(connection: sqlite3.Connection, path: str) -> None:
    problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise DataLoss(f"metadata database {path}: {problem}: data loss", hint=_DAMAGED)


def _translate(path: str, error: sqlite3.Error) -> Exception:
    """What SQLite says, as one of ours: only a file that is damaged is lost data."""
    name = getattr(error, "sqlite_errorname", "")
    if name in {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"}:
        return ResourceExhausted(
            f"metadata database {path}: no space left on device: resource exhausted", hint="free disk space"
        )
    if name.startswith("SQLITE_BUSY"):
        return Unavailable(
            f"metadata database {path} is in use by another program: unavailable", hint="end that program"
        )
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return FailedPrecondition(f"metadata database {path}: {error}: failed precondition")
    return DataLoss(f"metadata database {path}: {error}: data loss", hint=_DAMAGED)
