"""Log lines that know the task they were written for."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any, Dict, Optional, Union

from ._json import dump
from ._report import current, outlet

# The worker cuts what is longer; here the middle is left out, since the end of a traceback says the most.
_MESSAGE_MOST = 15 * 1024
_FIELDS_MOST = 32
_VALUE_MOST = 1024

#: What every record has; everything else on one came in through ``extra=``.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_plain = logging.Formatter("%(message)s")
_by_hand = logging.Formatter("%(levelname)s %(name)s: %(message)s")


class LogHandler(logging.Handler):
    """Sends records to the worker's log with their level, their extra fields and the id of the running task.

    ``logging.basicConfig(level="INFO", handlers=[LogHandler()])`` does it for everything that is logged. Without a
    worker (in a test, in a file run by hand, in a child process) the records go to standard error.
    """

    def __init__(self, level: Union[int, str] = logging.NOTSET) -> None:
        super().__init__(level)
        # Set, so that basicConfig does not put the level and the logger's name into the message.
        self.setFormatter(_plain)

    # No lock: a record is one call to the outbox, which has its own. With a second one, what logs while the outbox
    # writes (a signal handler, a finaliser) could wait for somebody who waits for it.
    def createLock(self) -> None:
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        passed: Any = self.filter(record)
        if isinstance(passed, logging.LogRecord):  # Python 3.12: a filter may put another in its place
            record = passed
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        try:
            outbox = outlet.outbox
            if outbox is None:
                formatter = _by_hand if self.formatter is _plain else self.formatter
                print((formatter or _plain).format(record), file=sys.stderr, flush=True)
                return
            outbox.note(_line(record, (self.formatter or _plain).format(record)))
            # At once, so that the last line before a crash is there.
            outbox.push()
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)


def _line(record: logging.LogRecord, text: str) -> bytes:
    fields: Dict[str, Any] = {}
    meter = current.get()
    if meter is not None:
        fields["task_id"] = meter.task_id
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
    if len(text) <= _MESSAGE_MOST:
        return text
    half = _MESSAGE_MOST // 2
    return text[:half] + f"\n[... {len(text) - 2 * half} characters left out ...]\n" + text[-half:]


def _extra(record: logging.LogRecord) -> Dict[str, Union[str, int, float, bool]]:
    out: Dict[str, Union[str, int, float, bool]] = {}
    for name, value in record.__dict__.items():
        if name in _USUAL or value is None:
            continue
        if len(out) == _FIELDS_MOST:
            break
        known = _field(value)
        if known is not None:
            out[name] = known
    return out


def _field(value: Any) -> Optional[Union[str, int, float, bool]]:
    if isinstance(value, (bool, float)) and math.isfinite(value):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    try:
        return str(value)[:_VALUE_MOST]
    except Exception:  # somebody's __str__, or an integer of thousands of digits
        return None


#: A logger whose lines carry the id of the running task. It lets info and above through: ``log.setLevel("DEBUG")``.
log = logging.getLogger("runqy")
log.setLevel(logging.INFO)
log.propagate = False  # or a configured root logger would write each line a second time
log.addHandler(LogHandler())
