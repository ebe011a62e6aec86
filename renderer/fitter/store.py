"""The queue's table: one SQLite file, many processes, every change atomic and written down.

WAL mode lets lists be read while a worker writes. A job is held by a lease: who holds it shows the lease's token with
every write, and a lapsed lease gives the job back.
"""

import dataclasses
import json
import math
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from renderer.fitter.jobs import FOLLOWS, HELD, Job, State, Verdict, after_failure
from streamer.errors import FitError

SCHEMA = 1
BUSY_S = 30.0
_JSON = ("overrides", "frames", "hold_out", "tries")
_COLUMNS = tuple(field.name for field in dataclasses.fields(Job))
_TABLES = f"""
CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, {", ".join(_COLUMNS[1:])});
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, priority DESC, id);
CREATE TABLE IF NOT EXISTS events (job INTEGER, time_s REAL, was TEXT, is_now TEXT, actor TEXT, reason TEXT);
CREATE INDEX IF NOT EXISTS events_by_job ON events (job);
"""


class QueueError(FitError):
    """The queue's file cannot be opened, read or written: a full disk, a damaged file. It may pass."""


class Store:
    """An open queue. Use one per thread.

    Args:
        path: the SQLite file; made if needed.

    Raises:
        FitError: it is of another version.
        QueueError: it is no queue, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, SCHEMA):
                self._db.close()
                raise FitError(f"the queue {path} has schema {version}, this version reads {SCHEMA}; move it away")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            if version == 0:
                self._db.executescript(_TABLES)
                self._db.execute(f"PRAGMA user_version={SCHEMA}")
        except (sqlite3.Error, OSError) as error:
            raise QueueError(f"cannot open the queue {path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise QueueError(f"cannot write the queue {self._path}: {error}; is its disk full?") from error

    def _read(self, statement: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Return the rows of a statement that only reads.

        Raises:
            QueueError: the file is damaged, or the disk does not answer.
        """
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise QueueError(f"cannot read the queue {self._path}: {error}; move it away to begin a new one") from error

    def add(self, job: Job, now_s: float) -> int:
        """Append a job; its id and times are made here. Returns the id."""
        values = _row(dataclasses.replace(job, state="queued", created_s=now_s))
        del values["id"]
        with self._writing():
            marks = ", ".join("?" * len(values))
            cursor = self._db.execute(
                f"INSERT INTO jobs ({', '.join(values)}) VALUES ({marks})",
                tuple(values.values()),
            )
            number = int(cursor.lastrowid or 0)
            self._note(number, now_s, "", "queued", "user", "added")
        return number

    def get(self, number: int) -> Job:
        """Return a job.

        Raises:
            FitError: there is none of this number.
        """
        rows = self._read("SELECT * FROM jobs WHERE id = ?", (number,))
        if not rows:
            raise FitError(f"there is no job {number}; mien fit list shows those there are")
        return _job(rows[0])

    def jobs(self) -> list[Job]:
        """Return all jobs: held ones first, then by what comes next, then the ended, newest first."""
        rows = self._read(
            "SELECT * FROM jobs ORDER BY CASE WHEN state IN ('running', 'pause-requested', 'cancel-requested') THEN 0 "
            "WHEN state IN ('queued', 'retry-wait', 'paused') THEN 1 ELSE 2 END, priority DESC, "
            "CASE WHEN state IN ('done', 'failed', 'cancelled') THEN -id ELSE id END"
        )
        return [_job(row) for row in rows]

    def events(self, number: int) -> list[Mapping[str, Any]]:
        """Return what happened to a job: `time_s`, `was`, `is_now`, `actor`, `reason`, oldest first."""
        rows = self._read(
            "SELECT time_s, was, is_now, actor, reason FROM events WHERE job = ? ORDER BY rowid", (number,)
        )
        return [dict(row) for row in rows]

    def ask(self, number: int, wish: State, now_s: float) -> Job:
        """Do what a person asks: `paused`, `queued` (resume, retry) or `cancelled`; a held job is asked to.

        Returns:
            The job as it is then.

        Raises:
            FitError: the job's state does not allow it.
        """
        with self._writing():
            job = self.get(number)
            target: State = wish
            if job.state in HELD and wish in ("paused", "cancelled"):
                target = "pause-requested" if wish == "paused" else "cancel-requested"
            if job.state == "pause-requested" and wish == "queued":
                target = "running"
            if job.state == target:
                return job
            if target not in FOLLOWS[job.state] or (job.state in HELD and target == "queued"):
                verb = {"paused": "paused", "queued": "queued again", "cancelled": "cancelled"}.get(wish, wish)
                raise FitError(f"job {number} is {job.state} and cannot be {verb}")
            changes: dict[str, Any] = {"state": target}
            if target == "queued":
                changes |= {"tries": {}, "not_before_s": 0.0, "message": ""}
            self._change(job, changes, now_s, "user", "asked for")
            return self.get(number)

    def lease(
        self, owner: str, now_s: float, lease_s: float, number: int | None = None, beyond: Sequence[str] = ()
    ) -> Job | None:
        """Take the next job, or None when there is none: by priority, then by age. Lapsed leases come back first.

        Args:
            owner: who takes it.
            now_s: Unix time.
            lease_s: from now.
            number: take this job or none.
            beyond: presets that the owner has too little memory for; their jobs are left for others.
        """
        with self._writing():
            self._reclaim(frozenset(), now_s)
            for job in self.waiting(now_s, beyond, number, most=1):
                held = {"owner": owner, "token": secrets.token_hex(8), "lease_until_s": now_s + lease_s}
                self._change(job, {**held, "state": "running"}, now_s, owner, "leased")
                return self.get(job.id)
        return None

    def waiting(self, now_s: float, beyond: Sequence[str] = (), number: int | None = None, most: int = -1) -> list[Job]:
        """Return the jobs that may be tried now, in the order in which `lease` takes them.

        Args:
            now_s: Unix time; infinite: whatever waits, until whenever.
            beyond: presets whose jobs are left out.
            number: this job or none.
            most: so many at most; -1: all.
        """
        rows = self._read(
            "SELECT * FROM jobs WHERE (state = 'queued' OR (state = 'retry-wait' AND not_before_s <= ?)) "
            f"AND preset NOT IN ({', '.join('?' * len(beyond))}) AND (? IS NULL OR id = ?) "
            "ORDER BY priority DESC, id LIMIT ?",
            (now_s, *beyond, number, number, most),
        )
        return [_job(row) for row in rows]

    def waiting_until_s(self, beyond: Sequence[str] = ()) -> float | None:
        """Return when the next waiting job may be tried, Unix time; None when none is queued or waits."""
        waiting = self.waiting(math.inf, beyond)
        return min((0.0 if job.state == "queued" else job.not_before_s for job in waiting), default=None)

    def give_back(self, owners: frozenset[str], now_s: float) -> int:
        """Take jobs from workers whose leases have lapsed or that are known to be dead; returns how many."""
        with self._writing():
            return self._reclaim(owners, now_s)

    def held(self) -> list[Job]:
        """Return the jobs that workers hold."""
        return [_job(row) for row in self._read(f"SELECT * FROM jobs WHERE state IN ({_marks(HELD)})", tuple(HELD))]

    def renew(
        self, job: Job, now_s: float, lease_s: float, told: Mapping[str, Any], *, advanced: bool = False
    ) -> State | None:
        """Show the token, tell how far the run is, and learn what is wanted.

        Args:
            job: as leased.
            now_s: Unix time.
            lease_s: from now.
            told: columns of progress: `step`, `steps`, `phase`, `loss`, `psnr_db`, `seconds`, `eta_s`.
            advanced: a checkpoint holds more than when the job was leased; workers lost before do not count any more.

        Returns:
            The state, or None when the job is no longer ours: stop and write nothing.
        """
        columns = {**told, "lease_until_s": now_s + lease_s}
        if advanced and "lost" in job.tries:
            columns["tries"] = json.dumps({cause: count for cause, count in job.tries.items() if cause != "lost"})
        names = ", ".join(f"{name} = ?" for name in columns)
        with self._writing():
            cursor = self._db.execute(
                f"UPDATE jobs SET {names} WHERE id = ? AND token = ? AND state IN ({_marks(HELD)})",
                (*columns.values(), job.id, job.token, *HELD),
            )
            return self.get(job.id).state if cursor.rowcount else None

    def end(self, job: Job, state: State, now_s: float, told: Mapping[str, Any]) -> bool:
        """End a run as `done`, `paused`, `cancelled` or `queued` (another worker may go on).

        Returns:
            False when the job is no longer ours: nothing was changed.
        """
        with self._writing():
            found = self.get(job.id)
            if found.token != job.token or found.state not in HELD:
                return False
            if found.state == "cancel-requested" and state in ("paused", "queued"):
                state = "cancelled"
            if found.state == "running" and state == "paused":
                state = "queued"
            if found.state == "running" and state == "cancelled":
                state = "queued"
            self._change(found, {**told, "state": state, "owner": "", "token": ""}, now_s, job.owner, "run ended")
        return True

    def fail(self, job: Job, verdict: Verdict, now_s: float) -> bool:
        """End a run badly. Returns False when the job is no longer ours."""
        with self._writing():
            found = self.get(job.id)
            if found.token != job.token or found.state not in HELD:
                return False
            self._settle(found, verdict, now_s, job.owner)
        return True

    def _reclaim(self, owners: frozenset[str], now_s: float) -> int:
        lost = [job for job in self.held() if job.owner in owners or job.lease_until_s < now_s]
        for job in lost:
            self._settle(job, after_failure(job, "lost", "the worker was lost", now_s, 0), now_s, "queue")
        return len(lost)

    def _settle(self, job: Job, verdict: Verdict, now_s: float, actor: str) -> None:
        state: State = verdict.state
        if job.state == "cancel-requested":
            state = "cancelled"
        elif job.state == "pause-requested" and state == "retry-wait":
            state = "paused"
        changes = {
            "state": state,
            "tries": verdict.tries,
            "not_before_s": verdict.not_before_s,
            "overrides": verdict.overrides,
            "rate_scale": verdict.rate_scale,
            "message": verdict.message,
            "owner": "",
            "token": "",
        }
        self._change(job, changes, now_s, actor, verdict.message)

    def _change(self, job: Job, changes: Mapping[str, Any], now_s: float, actor: str, reason: str) -> None:
        state = changes["state"]
        if state != job.state and state not in FOLLOWS[job.state]:
            raise FitError(f"job {job.id} cannot go from {job.state} to {state}")
        columns = {name: json.dumps(value) if name in _JSON else value for name, value in changes.items()}
        names = ", ".join(f"{name} = ?" for name in columns)
        self._db.execute(f"UPDATE jobs SET {names} WHERE id = ?", (*columns.values(), job.id))
        self._note(job.id, now_s, job.state, state, actor, reason)

    def _note(self, number: int, now_s: float, was: str, is_now: str, actor: str, reason: str) -> None:
        self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", (number, now_s, was, is_now, actor, reason))


def _marks(states: frozenset[State]) -> str:
    return ", ".join("?" * len(states))


def _row(job: Job) -> dict[str, Any]:
    row = {name: getattr(job, name) for name in _COLUMNS}
    return {name: json.dumps(value) if name in _JSON else value for name, value in row.items()}


def _job(row: sqlite3.Row) -> Job:
    values = {name: json.loads(row[name]) if name in _JSON else row[name] for name in _COLUMNS}
    begin, end = values["frames"]
    return Job(**{**values, "frames": (begin, end), "hold_out": tuple(values["hold_out"])})
