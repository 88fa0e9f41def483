"""What a handler tells while it runs: how far its task has come."""

from __future__ import annotations

import os
import queue
import threading
import time
from contextvars import ContextVar
from typing import Any, Dict, Optional, SupportsFloat, Tuple

from ._channel import Outbox
from ._json import dump

#: Reports of one task that follow each other faster than this (seconds) are merged.
INTERVAL = 0.1

_MESSAGE_MOST = 200

_Report = Tuple[Optional[float], str]


class Outlet:
    """Where reports and log lines leave the process; none of it unless a worker runs it."""

    def __init__(self) -> None:
        #: None when there is no worker to tell, as in a child that a handler has forked.
        self.outbox: Optional[Outbox] = None
        self._late: "queue.SimpleQueue[Meter]" = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: Optional[threading.Thread] = None

    def open(self, outbox: Outbox) -> None:
        self.outbox = outbox
        os.register_at_fork(after_in_child=self.close)

    def close(self) -> None:
        self.outbox = None

    def later(self, meter: "Meter") -> None:
        """Has the meter's merged reports sent when their time has come."""
        self._late.put(meter)
        # A signal handler may strike here and come back to it: then whoever holds the lock starts the thread.
        if self._thread is None and self._starting.acquire(False):
            try:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="runqy-progress", daemon=True)
                    thread.start()
                    self._thread = thread
            except RuntimeError:
                pass  # the interpreter is ending; the end of the task sends what is left
            finally:
                self._starting.release()

    def _run(self) -> None:
        # Ends with the process (daemon). All meters wait equally long, so the first in is the first due.
        while True:
            meter = self._late.get()
            pause = meter.due - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            meter.send_late()


outlet = Outlet()


class Meter:
    """How far one task has come. Safe from any thread and from signal handlers."""

    __slots__ = ("task_id", "due", "_lock", "_ended", "_merged", "_waiting")

    def __init__(self, task_id: Any) -> None:
        self.task_id = task_id
        #: When the next report may be sent.
        self.due = 0.0
        self._lock = threading.RLock()  # guards the rest, and the order of what is sent
        self._ended = False
        self._merged: Optional[_Report] = None
        self._waiting = False

    def report(self, fraction: Optional[float], message: str) -> None:
        outbox = outlet.outbox  # before the lock, which another thread may have held when we were forked
        if outbox is None or self._ended:
            return
        with self._lock:
            if self._ended:
                return
            if time.monotonic() < self.due:
                if fraction is None and self._merged is not None:
                    fraction = self._merged[0]
                self._merged = (fraction, message)
                if not self._waiting:
                    self._waiting = True
                    outlet.later(self)
                return
            self._leave(outbox, (fraction, message))
        # Not under the lock: what runs while the pipe is written (a finaliser, say) may report as well.
        outbox.push()

    def send_late(self) -> None:
        outbox = outlet.outbox
        if outbox is None:
            return
        with self._lock:
            self._waiting = False
            if self._ended or self._merged is None:
                return
            self._leave(outbox, self._merged)
        outbox.push()

    def end(self) -> None:
        """The task is about to be answered: what is merged leaves before the reply, what comes later is ignored."""
        outbox = outlet.outbox
        with self._lock:
            self._ended = True
            if self._merged is not None and outbox is not None:
                self._leave(outbox, self._merged)

    def _leave(self, outbox: Outbox, report: _Report) -> None:
        self._merged = None
        self.due = time.monotonic() + INTERVAL
        fraction, message = report
        fields: Dict[str, Any] = {"task_id": self.task_id}
        if fraction is not None:
            fields["fraction"] = round(fraction, 6)
        fields["message"] = message[:_MESSAGE_MOST]
        outbox.note(dump({"progress": fields}) + b"\n")


#: The task that the present code works for. Copied into asyncio tasks and asyncio.to_thread by Python itself.
current: "ContextVar[Optional[Meter]]" = ContextVar("runqy_task", default=None)


def progress(fraction: Optional[SupportsFloat], message: str = "") -> None:
    """Report how far the running task has come: ``progress(0.4, "epoch 4")``.

    ``fraction`` is the share that is done, from 0 to 1; what lies outside is taken for the nearer end. None or nan
    keeps the one before, for when only the message is news. Call it as often as you like: about ten reports a second
    leave the process, the first and the last always do. Outside a task it does nothing, so that a handler can be
    called from a test.

    Which task is meant is a context variable, which a thread does not inherit: in a thread of your own use
    ``ctx.progress`` or ``contextvars.copy_context().run``.
    """
    report = checked(fraction, message)
    meter = current.get()
    if meter is not None:
        meter.report(*report)


def checked(fraction: Optional[SupportsFloat], message: str) -> _Report:
    """The arguments of progress as they are kept. TypeError for what is no number."""
    if type(message) is not str:
        message = str(message)
    if fraction is None:
        return None, message
    if isinstance(fraction, (str, bytes, bytearray)):
        raise TypeError(f"progress({fraction!r}): the fraction must be a number from 0 to 1, or None")
    try:
        share = float(fraction)
    except OverflowError:  # an integer beyond all floats
        share = 1.0 if fraction > 0 else 0.0  # type: ignore[operator]
    if share != share:
        return None, message
    return 0.0 if share < 0.0 else 1.0 if share > 1.0 else share, message
