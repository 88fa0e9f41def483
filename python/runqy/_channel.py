"""The protocol's own descriptors, and the buffer that finished replies leave through."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from collections import deque
from typing import Callable, Deque, List

#: A finished reply waits at most about this long (seconds) for others to share its write.
PATIENCE = 0.001

#: At most so many notes wait, for at most so long (seconds) a call, while somebody else writes to a full pipe.
_NOTES_MOST = 1000
_NOTE_PATIENCE = 1.0


class WorkerGone(Exception):
    """Nobody reads our replies any more."""


class Channel:
    """Descriptors 0 and 1 as the worker gave them, moved where print, C code and child processes cannot reach them.

    After construction descriptor 0 is /dev/null and descriptor 1 is standard error; the private copies are not
    inherited by programs this process starts.
    """

    def __init__(self) -> None:
        # At least 3: if 0, 1 or 2 was closed, a plain dup could land there and C code would write into the protocol.
        self.input = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
        self.output = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
        os.set_blocking(self.input, True)
        os.set_blocking(self.output, True)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        try:
            os.dup2(2, 1)
        except OSError:  # started with a closed standard error
            os.dup2(null, 1)
            os.dup2(null, 2)
        if null > 2:
            os.close(null)
        self.gone = False
        #: Called once, from whichever thread finds that the worker is gone.
        self.on_gone: Callable[[], None] = lambda: None
        self.forked = False
        # What was printed but not yet flushed now goes to the log; from here on line by line, so that it is not late.
        try:
            sys.stdout.flush()
            sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
        except (AttributeError, OSError, ValueError):
            pass  # sys.stdout is None or somebody's own object
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        # A forked child must neither answer for its parent nor keep the protocol open after the parent has died.
        self.forked = True
        os.close(self.input)
        os.close(self.output)

    def write(self, data: bytes) -> None:
        """Writes all of data; blocks while the pipe is full. Raises WorkerGone when there is no reader.

        Callers take turns (see Outbox).
        """
        if self.gone or self.forked:
            raise WorkerGone()
        try:
            done = os.write(self.output, data)
            if done < len(data):
                view = memoryview(data)
                while done < len(data):
                    done += os.write(self.output, view[done:])
        except OSError as exc:  # EPIPE; whatever else it is, the worker cannot be reached any more
            self.gone = True
            self.hush()
            self.on_gone()
            raise WorkerGone() from exc

    def hush(self) -> None:
        """Makes standard output and error go nowhere: their reader died too, and exiting must be quiet."""
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.close(null)
        except OSError:
            pass


def leave_fork(status: int) -> None:
    """Ends a child that a handler forked and that came back through it: only its parent may answer the task."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    os._exit(status & 0xFF)


class Outbox:
    """Finished replies on their way out. Safe from any thread.

    `send` writes now. `hold` lets replies that finish within PATIENCE of each other share one write, which doubles the
    throughput of quick handlers; a thread of its own writes what is held when the task after it turns out slow.

    `note` and `push` are for what handlers say while they run. Both may be called from signal handlers and finalisers,
    so in the middle of any of these methods, on the thread that is in it.
    """

    def __init__(self, channel: Channel, clock: Callable[[], float] = time.monotonic) -> None:
        self._channel = channel
        self._clock = clock
        self._lock = threading.RLock()  # guards everything below but the notes, and the order of writes
        self._busy = False  # a write is under way
        self._notes: Deque[bytes] = deque()
        self._lost = 0
        self._held: List[bytes] = []
        self._since = 0.0
        self._armed = False
        self._alarm = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._watch, name="runqy-flush", daemon=True)
        self._thread.start()
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._held = []
        self._notes.clear()

    def hold(self, line: bytes) -> bool:
        """Takes a reply that may wait a moment. True when it is the first to wait."""
        with self._lock:
            held = self._held
            held.append(line)
            if len(held) > 1:
                if self._clock() - self._since > PATIENCE:
                    self._write()
                return False
            self._since = self._clock()
            if not self._armed:
                self._armed = True
                self._alarm.release()
            return True

    def send(self, line: bytes) -> None:
        """Writes a line, after what was held."""
        with self._lock:
            self._held.append(line)
            self._write()

    def flush(self) -> None:
        if self._held or self._notes:
            with self._lock:
                self._write()

    @property
    def waiting(self) -> bool:
        return bool(self._held)

    def note(self, line: bytes) -> None:
        """Takes a line that is no reply; it leaves before any reply that is held or sent after it. Never blocks."""
        if len(self._notes) < _NOTES_MOST:
            self._notes.append(line)
        else:
            self._lost += 1

    def push(self) -> None:
        """Writes the notes, unless somebody is writing already who will see to them. Never raises WorkerGone."""
        if not self._lock.acquire(timeout=_NOTE_PATIENCE):
            return  # the next write takes them along
        try:
            if not self._busy:
                self._write_lines([])
        except WorkerGone:
            pass
        finally:
            self._lock.release()

    def _write(self) -> None:
        held = self._held
        if held or self._notes:
            self._held = []
            self._write_lines(held)

    def _write_lines(self, lines: List[bytes]) -> None:
        if self._notes:
            lines = self._take_notes() + lines
        while lines:
            self._busy = True
            try:
                self._channel.write(lines[0] if len(lines) == 1 else b"".join(lines))
            finally:
                self._busy = False
            lines = self._take_notes() if self._notes else []

    def _take_notes(self) -> List[bytes]:
        lines: List[bytes] = []
        notes = self._notes
        try:
            while notes:
                lines.append(notes.popleft())
        except IndexError:
            pass  # a signal handler's push was quicker
        lost = self._lost
        if lost:
            self._lost -= lost
            lines.append(
                b'{"log":{"level":"warn","logger":"runqy","message":"%d lines were lost: the pipe was full"}}\n' % lost
            )
        return lines

    def _watch(self) -> None:
        # Ends with the process (daemon), or when the worker is gone.
        while True:
            self._alarm.acquire()
            while True:
                time.sleep(PATIENCE)
                with self._lock:
                    if not self._held:
                        self._armed = False
                        break
                    if self._clock() - self._since > PATIENCE:
                        try:
                            self._write()
                        except WorkerGone:
                            return
