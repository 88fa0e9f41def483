"""What this process writes to the worker: replies, progress reports and log lines, in order and from any thread."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, List, Set, Tuple

from ._channel import Channel, Line, WorkerGone

#: A finished reply is held at most about this long, in seconds, so that others can share its write.
HOLD_TIME = 0.001

#: How many reports may wait while another thread writes to a full pipe; more are dropped and counted.
_MAX_REPORTS = 1000
#: How long, in seconds, write_reports waits for such a thread.
_WRITE_TIMEOUT = 1.0


class Outbox:
    """Lines on their way to the worker. Safe to use from any thread.

    Replies: `send` writes one at once. `hold` lets replies that finish within HOLD_TIME of each other share one write,
    which doubles the throughput of quick handlers. A thread writes what is held when the next task turns out slow.

    Reports are the progress and the log lines of running handlers: `add_report` takes one and `write_reports` writes
    them. Both may be called from a signal handler or a finaliser, that is, in the middle of any method of this class,
    on the thread that runs the method.
    """

    def __init__(self, channel: Channel, clock: Callable[[], float] = time.monotonic) -> None:
        self._channel = channel
        self._clock = clock
        # Guards the order of writes. Reentrant: a signal handler may report while
        # its thread writes.
        self._lock = threading.RLock()
        self._writing = False
        self._reports: Deque[bytes] = deque()
        self._dropped = 0
        self._waiting_threads: Set[int] = set()  # threads that wait in write_reports
        #: The replies and other lines that wait. Any thread may add one at the end without the lock; a writer, which
        #: has the lock, takes them from the front. For callers: whether it is empty.
        self.held: List[Line] = []
        self._held_since = 0.0
        self._flush_pending = False
        self._flush_wanted = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._flush_held, name="runqy-flush", daemon=True)
        self._thread.start()
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self.held.clear()
        self._reports.clear()
        self._waiting_threads.clear()

    def hold(self, reply: Line, now: float) -> bool:
        """Take a reply that may wait for HOLD_TIME; now is the time of the clock.

        Returns whether it is the only one that waits.
        """
        held = self.held
        alone = not held
        if alone:
            self._held_since = now
        held.append(reply)
        # Read after the reply is added, as _flush_held does it the other way round.
        if not self._flush_pending:
            self._flush_pending = True
            self._flush_wanted.release()
        if not alone and now - self._held_since > HOLD_TIME:
            self.flush()
        return alone

    def send(self, line: Line) -> None:
        """Write a line, after the replies that are held. When it returns, the line is written."""
        self.held.append(line)
        self.flush()

    def flush(self) -> None:
        """Write everything that waits, and wait for a write that is under way on another thread."""
        with self._lock:
            self._write()

    def add_report(self, line: bytes) -> None:
        """Take a line that is no reply. It is written before any reply that is held or sent after it. Never blocks."""
        if len(self._reports) < _MAX_REPORTS:
            self._reports.append(line)
        else:
            self._dropped += 1

    def write_reports(self) -> None:
        """Write the reports that wait. Blocks for at most _WRITE_TIMEOUT; never raises WorkerGone.

        Where a write is under way, on this thread or another, that write takes them along.
        """
        thread = threading.get_ident()
        if thread in self._waiting_threads:
            # A signal handler interrupted the call of this thread that waits below. That call will write these reports
            # too. If this one waited as well, a timer's signals could pile up, one within the other, until the stack
            # overflows.
            return
        if not self._lock.acquire(blocking=False):
            self._waiting_threads.add(thread)
            try:
                if not self._lock.acquire(timeout=_WRITE_TIMEOUT):
                    return  # the next write takes them along
            finally:
                self._waiting_threads.discard(thread)
        try:
            if not self._writing:
                self._write_lines([])
        except WorkerGone:
            pass
        finally:
            self._lock.release()

    def _write(self) -> None:
        held = self.held
        lines = held[:]
        if lines or self._reports:
            del held[: len(lines)]
            self._write_lines(lines)

    def _write_lines(self, lines: List[Line]) -> None:
        if self._reports:
            lines = self._take_reports() + lines
        while lines:
            self._writing = True
            try:
                if tuple in map(type, lines):
                    self._channel.write_pieces([piece for line in lines for piece in _pieces(line)])
                else:
                    whole: Any = lines  # of bytes
                    self._channel.write(whole[0] if len(whole) == 1 else b"".join(whole))
            finally:
                self._writing = False
            lines = self._take_reports() if self._reports else []

    def _take_reports(self) -> List[Line]:
        lines: List[Line] = []
        reports = self._reports
        try:
            while reports:
                lines.append(reports.popleft())
        except IndexError:
            pass  # a signal handler took the last one
        dropped = self._dropped
        if dropped:
            self._dropped -= dropped
            lines.append(
                b'{"log":{"level":"warn","logger":"runqy","message":"%d lines were lost: the pipe was full"}}\n'
                % dropped
            )
        return lines

    def _flush_held(self) -> None:
        # A daemon thread: it ends with the process, or when the worker is gone.
        while True:
            self._flush_wanted.acquire()
            while True:
                time.sleep(HOLD_TIME)
                if not self.held:
                    self._flush_pending = False
                    if not self.held:
                        break
                    self._flush_pending = True
                if self._clock() - self._held_since > HOLD_TIME:
                    try:
                        self.flush()
                    except WorkerGone:
                        return


def _pieces(line: Line) -> Tuple[bytes, ...]:
    return line if isinstance(line, tuple) else (line,)
