"""Log lines that carry the id of the task that wrote them."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any, Dict, Optional, Union

from ._json import dump
from ._report import current_task, reporter

# In characters. The worker cuts off the end of a longer line. Here the middle is left out instead, since the end of a
# traceback says the most.
_MAX_MESSAGE = 15 * 1024
_MAX_FIELDS = 32
_MAX_VALUE = 1024

#: The attributes of every record. Any other attribute was given as ``extra=``.
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_message_only = logging.Formatter("%(message)s")
_stderr_format = logging.Formatter("%(levelname)s %(name)s: %(message)s")


class LogHandler(logging.Handler):
    """A logging handler that sends records to the worker's log.

    Each line has the record's level, its ``extra`` fields and the id of the running task. To send everything that is
    logged that way: ``logging.basicConfig(level="INFO", handlers=[LogHandler()])``. Without a worker (in a test, in a
    file run by hand, in a child process) the records go to standard error.
    """

    def __init__(self, level: Union[int, str] = logging.NOTSET) -> None:
        super().__init__(level)
        # basicConfig would set one that puts the level and the logger's name into the message.
        self.setFormatter(_message_only)

    # No lock: a record is one line for the outbox, which has its own. With a second lock, a signal handler or finaliser
    # that logs while the outbox writes could wait for a thread that waits for the outbox.
    def createLock(self) -> None:
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        accepted: Any = self.filter(record)
        if isinstance(accepted, logging.LogRecord):  # from Python 3.12 on a filter may return another record
            record = accepted
        if accepted:
            self.emit(record)
        return accepted

    def emit(self, record: logging.LogRecord) -> None:
        try:
            outbox = reporter.outbox
            if outbox is None:
                formatter = _stderr_format if self.formatter is _message_only else self.formatter
                print((formatter or _message_only).format(record), file=sys.stderr, flush=True)
                return
            outbox.add_report(_line(record, (self.formatter or _message_only).format(record)))
            # At once, so that the last line before a crash is not lost.
            outbox.write_reports()
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)


def _line(record: logging.LogRecord, text: str) -> bytes:
    fields: Dict[str, Any] = {}
    progress = current_task.get()
    if progress is not None:
        fields["task_id"] = progress.task_id
    fields["level"] = _level(record.levelno)
    fields["message"] = _clip(text)
    fields["logger"] = record.name
    extra = _extra(record)
    if extra:
        fields["fields"] = extra
    return dump({"log": fields}) + b"\n"


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warn"
    return "info" if number >= logging.INFO else "debug"


def _clip(text: str) -> str:
    if len(text) <= _MAX_MESSAGE:
        return text
    half = _MAX_MESSAGE // 2
    return text[:half] + f"\n[... {len(text) - 2 * half} characters left out ...]\n" + text[-half:]


def _extra(record: logging.LogRecord) -> Dict[str, Union[str, int, float, bool]]:
    fields: Dict[str, Union[str, int, float, bool]] = {}
    for name, value in record.__dict__.items():
        if name in _STANDARD_ATTRIBUTES or value is None:
            continue
        if len(fields) == _MAX_FIELDS:
            break
        field = _field(value)
        if field is not None:
            fields[name] = field
    return fields


def _field(value: Any) -> Optional[Union[str, int, float, bool]]:
    if isinstance(value, (bool, float)) and math.isfinite(value):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    try:
        return str(value)[:_MAX_VALUE]
    except Exception:  # its __str__ failed, or it is an integer of thousands of digits
        return None


#: A logger whose lines go to the worker's log with the id of the running task. Its level is INFO; to get more:
#: ``log.setLevel("DEBUG")``.
log = logging.getLogger("runqy")
log.setLevel(logging.INFO)
log.propagate = False  # a configured root logger would write each line a second time
log.addHandler(LogHandler())
