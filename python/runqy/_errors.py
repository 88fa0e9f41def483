"""The exceptions that a handler may raise, and the error text that is kept of any exception."""

from __future__ import annotations

import builtins
import math
import traceback
from datetime import timedelta
from typing import Any, List, Optional, Tuple, Union

# In characters. An error text is kept in Redis and shown in terminals. Its first line and the end of its traceback
# matter; a message may quote megabytes.
_MAX_MESSAGE = 4 * 1024
_MAX_TRACEBACK = 24 * 1024


class Permanent(Exception):
    """Raise it in a handler when the task has failed and a retry would not help.

    The task is archived at once, even if it has retries left.
    """


class BadRequest(Permanent):
    """A request with a task id but no readable task. It is not retried: the same bytes would fail the same way."""


class Retry(Exception):
    """Raise it in a handler to have the task retried after ``delay``.

    ``delay`` is a number of seconds (int or float, at least 0) or a timedelta. Without it the queue's backoff decides,
    as after any other exception. The retry counts against the task's max_retry.
    """

    def __init__(self, *args: Any, delay: Union[int, float, timedelta, None] = None) -> None:
        super().__init__(*args)
        if isinstance(delay, timedelta):
            delay = delay.total_seconds()
        if delay is not None:
            if isinstance(delay, bool) or not isinstance(delay, (int, float)):
                raise TypeError(f"Retry(delay={delay!r}): delay must be a number of seconds or a timedelta")
            if not math.isfinite(delay) or delay < 0:
                raise ValueError(f"Retry(delay={delay!r}): delay must be finite and not negative")
        self.delay: Optional[float] = None if delay is None else float(delay)

    def __str__(self) -> str:
        text = super().__str__()
        if text or self.delay is None:
            return text
        return f"again in {self.delay:g} s"


class Broken(Exception):
    """Raise it in a handler when this process cannot work any more, for example after a CUDA error.

    The attempt fails and is retried. The worker replaces the process before another task begins; async tasks that are
    running may end. Tasks that wait in the process go back as if they had never been here.
    """


Broken.__module__ = Permanent.__module__ = Retry.__module__ = "runqy"


def classify(exc: BaseException) -> Tuple[bool, Optional[float]]:
    """Whether a task whose handler raised exc is retried, and after how many seconds (None: the queue decides)."""
    leaves = _leaves(exc)
    if all(isinstance(leaf, Permanent) for leaf in leaves):
        return False, None
    delays = [leaf.delay for leaf in leaves if isinstance(leaf, Retry) and leaf.delay is not None]
    return True, max(delays) if delays else None


def says_broken(exc: BaseException) -> bool:
    """Whether a handler that raised exc said that its process cannot work any more."""
    return any(isinstance(leaf, Broken) for leaf in _leaves(exc))


def _leaves(exc: BaseException) -> List[BaseException]:
    # asyncio.TaskGroup wraps what its members raise, and a Permanent inside must still count. The class is looked up by
    # name, since it exists only from Python 3.11 on.
    group = getattr(builtins, "BaseExceptionGroup", None)
    if group is None or not isinstance(exc, group):
        return [exc]
    found: List[BaseException] = []
    pending = [exc]
    while pending:
        item = pending.pop()
        if isinstance(item, group):
            pending.extend(item.exceptions)
        else:
            found.append(item)
    return found


def describe(exc: BaseException, skip_first_frame: bool = True) -> str:
    """The error text: 'Type: message' on the first line, then the traceback. Never raises.

    skip_first_frame leaves out the outermost frame, which is this package's where it called the handler.
    """
    try:
        name = type(exc).__qualname__
        try:
            message = str(exc)
        except BaseException:
            message = "<the exception's own __str__ failed>"
        head = name + ": " + _clip(message, _MAX_MESSAGE) if message else name
        trace = exc.__traceback__
        if skip_first_frame and trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        text = "".join(traceback.format_exception(type(exc), exc, trace)).rstrip("\n")
        if len(text) > _MAX_TRACEBACK:
            half = _MAX_TRACEBACK // 2
            text = text[:half] + f"\n[... {len(text) - 2 * half} characters left out ...]\n" + text[-half:]
        return head + "\n" + text
    except BaseException as second:  # e.g. MemoryError, or a __str__ that calls sys.exit
        return f"{type(exc).__name__}: <could not be described: {type(second).__name__}>"


def _clip(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return text[:limit] + f" [... {len(text) - limit} characters left out ...]"
