"""Progress: what a handler reports while it runs, and how its reports are merged and sent."""

from __future__ import annotations

import os
import queue
import threading
import time
from contextvars import ContextVar
from typing import Any, Dict, Optional, SupportsFloat, Tuple

from ._json import dump
from ._outbox import Outbox

#: Reports of one task that follow each other faster than this, in seconds, are merged.
INTERVAL = 0.1

_MAX_MESSAGE = 200  # characters

_Report = Tuple[Optional[float], str]


class Reporter:
    """Sends progress reports and log lines to the worker. Without a worker there is no outbox and nothing is sent."""

    def __init__(self) -> None:
        #: None when there is no worker, as in a child process that a handler has forked.
        self.outbox: Optional[Outbox] = None
        #: Guards what the tasks have merged, and the order of what they send. One for all tasks: nobody waits while
        #: holding it. Reentrant: a signal handler may report in the middle of a report.
        self.lock = threading.RLock()
        self._merged: "queue.SimpleQueue[TaskProgress]" = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: Optional[threading.Thread] = None

    def open(self, outbox: Outbox) -> None:
        """Send everything through outbox from now on, in this process but not in its forked children."""
        self.outbox = outbox
        os.register_at_fork(after_in_child=self.close)

    def close(self) -> None:
        """Send nothing any more."""
        self.outbox = None

    def send_later(self, progress: "TaskProgress") -> None:
        """Have a task's merged reports sent once its interval is over."""
        self._merged.put(progress)
        # A signal handler may interrupt this thread here and call this method too. Then the call that holds the lock
        # starts the thread.
        if self._thread is None and self._starting.acquire(False):
            try:
                if self._thread is None:
                    thread = threading.Thread(target=self._send_merged, name="runqy-progress", daemon=True)
                    thread.start()
                    self._thread = thread
            except RuntimeError:
                pass  # the interpreter is ending; the end of the task sends what is left
            finally:
                self._starting.release()

    def _send_merged(self) -> None:
        # A daemon thread: it ends with the process. Every task waits equally long, so the first in is the first due.
        while True:
            progress = self._merged.get()
            pause = progress.next_report_time() - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            progress.send_merged()


reporter = Reporter()


class TaskProgress:
    """The progress of one task. Safe to use from any thread and from signal handlers."""

    __slots__ = ("task_id", "_ended", "_reports")

    def __init__(self, task_id: Any) -> None:
        self.task_id = task_id
        self._ended = False
        self._reports: Optional[_Reports] = None  # most tasks report nothing

    def report(self, fraction: Optional[float], message: str) -> None:
        """Send a report, or merge it with those that wait for the interval to be over."""
        # Read before the lock is taken: in a forked child, a thread of the parent may have held the lock for ever.
        outbox = reporter.outbox
        if outbox is None or self._ended:
            return
        with reporter.lock:
            reports = self._reports
            if reports is None:
                reports = self._reports = _Reports()
            if self._ended:  # read after _reports is set, as end does it the other way round
                return
            if time.monotonic() < reports.next_time:
                if fraction is None and reports.merged is not None:
                    fraction = reports.merged[0]
                reports.merged = (fraction, message)
                if not reports.waiting:
                    reports.waiting = True
                    reporter.send_later(self)
                return
            self._add_to(outbox, reports, (fraction, message))
        # Not under the lock: a finaliser that runs while the pipe is written may report as well.
        outbox.write_reports()

    def next_report_time(self) -> float:
        """When the next report may be sent, on the monotonic clock."""
        return 0.0 if self._reports is None else self._reports.next_time

    def send_merged(self) -> None:
        """Send the merged reports, if the task still runs."""
        outbox, reports = reporter.outbox, self._reports
        if outbox is None or reports is None:
            return
        with reporter.lock:
            reports.waiting = False
            if self._ended or reports.merged is None:
                return
            self._add_to(outbox, reports, reports.merged)
        outbox.write_reports()

    def end(self) -> None:
        """The task's reply comes next: send the merged reports before it, and ignore later ones."""
        self._ended = True
        if self._reports is not None:
            self._send_last(self._reports)

    def _send_last(self, reports: "_Reports") -> None:
        outbox = reporter.outbox
        with reporter.lock:
            if reports.merged is not None and outbox is not None:
                self._add_to(outbox, reports, reports.merged)

    def _add_to(self, outbox: Outbox, reports: "_Reports", report: _Report) -> None:
        reports.merged = None
        reports.next_time = time.monotonic() + INTERVAL
        fraction, message = report
        fields: Dict[str, Any] = {"task_id": self.task_id}
        if fraction is not None:
            fields["fraction"] = round(fraction, 6)
        fields["message"] = message[:_MAX_MESSAGE]
        outbox.add_report(dump({"progress": fields}) + b"\n")


class _Reports:
    """What a task that has reported has merged since."""

    __slots__ = ("next_time", "merged", "waiting")

    def __init__(self) -> None:
        self.next_time = 0.0  # when the next report may be sent, on the monotonic clock
        self.merged: Optional[_Report] = None
        self.waiting = False  # whether the reporter's thread will send what is merged


#: The task that the running code works for. Python copies it into asyncio tasks and asyncio.to_thread.
current_task: "ContextVar[Optional[TaskProgress]]" = ContextVar("runqy_task", default=None)


def progress(fraction: Optional[SupportsFloat], message: str = "") -> None:
    """Report how far the running task has come: ``progress(0.4, "epoch 4")``.

    ``fraction`` is the share that is done, from 0 to 1. A number below 0 counts as 0, one above 1 as 1. None and nan
    keep the fraction reported before, for when only the message is new. Call it as often as you like: about ten reports
    a second are sent, and the first and the last always are. Outside a task it does nothing, so a test can call the
    handler.

    Which task reports is decided by a context variable, which a thread does not inherit. In a thread of your own, call
    ``ctx.progress`` or start the thread with ``contextvars.copy_context().run``.
    """
    report = check_arguments(fraction, message)
    task = current_task.get()
    if task is not None:
        task.report(*report)


def check_arguments(fraction: Optional[SupportsFloat], message: str) -> _Report:
    """The arguments of progress, as they are kept. Raises TypeError for a fraction that is no number."""
    if type(message) is not str:
        message = str(message)
    if fraction is None:
        return None, message
    if isinstance(fraction, (str, bytes, bytearray)):
        raise TypeError(f"progress({fraction!r}): the fraction must be a number from 0 to 1, or None")
    try:
        share = float(fraction)
    except OverflowError:  # a number larger than every float, such as 10**400
        number: Any = fraction
        share = 1.0 if number > 0 else 0.0
    if share != share:
        return None, message
    return 0.0 if share < 0.0 else 1.0 if share > 1.0 else share, message
