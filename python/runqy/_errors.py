"""The exceptions a handler may raise, and how any exception becomes an error text."""

from __future__ import annotations

import builtins
import math
import traceback
from datetime import timedelta
from typing import Any, List, Optional, Tuple, Union

# An error text is kept in Redis and shown in terminals: the first line and the end of the traceback matter,
# not the megabytes that a message may quote.
MAX_MESSAGE = 4 * 1024
MAX_TRACEBACK = 24 * 1024


class Permanent(Exception):
    """Raised by a handler: the task has failed and trying again would not help.

    The task is archived at once, whatever its remaining retries.
    """


class BadRequest(Permanent):
    """A request that can be answered but not be understood. The same bytes would fail the same way."""


class Retry(Exception):
    """Raised by a handler: try this task again, after ``delay``.

    ``delay`` is in seconds (an int or float, at least 0) or a timedelta. Without it the queue's own backoff decides,
    as for any other exception. A retry counts against the task's max_retry.
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


Permanent.__module__ = Retry.__module__ = "runqy"


def verdict(exc: BaseException) -> Tuple[bool, Optional[float]]:
    """Whether a task that raised exc is to be retried, and after how many seconds (None: the queue decides)."""
    leaves = _leaves(exc)
    if all(isinstance(leaf, Permanent) for leaf in leaves):
        return False, None
    delays = [leaf.delay for leaf in leaves if isinstance(leaf, Retry) and leaf.delay is not None]
    return True, max(delays) if delays else None


def _leaves(exc: BaseException) -> List[BaseException]:
    # asyncio.TaskGroup wraps what its members raise: a Permanent inside must still be seen. Looked up by name,
    # since the class exists from Python 3.11 on only.
    group = getattr(builtins, "BaseExceptionGroup", None)
    if group is None or not isinstance(exc, group):
        return [exc]
    found: List[BaseException] = []
    todo = [exc]
    while todo:
        item = todo.pop()
        if isinstance(item, group):
            todo.extend(item.exceptions)  # type: ignore[attr-defined]
        else:
            found.append(item)
    return found


def describe(exc: BaseException, own_frame: bool = True) -> str:
    """'Type: message' on the first line, then the traceback. Never raises.

    With own_frame the outermost frame is this package's and is left out.
    """
    try:
        name = type(exc).__qualname__
        try:
            message = str(exc)
        except BaseException:
            message = "<the exception's own __str__ failed>"
        head = name + ": " + _clip(message, MAX_MESSAGE) if message else name
        trace = exc.__traceback__
        if own_frame and trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        text = "".join(traceback.format_exception(type(exc), exc, trace)).rstrip("\n")
        if len(text) > MAX_TRACEBACK:
            half = MAX_TRACEBACK // 2
            text = text[:half] + f"\n[... {len(text) - 2 * half} characters left out ...]\n" + text[-half:]
        return head + "\n" + text
    except BaseException as second:  # e.g. MemoryError, or a __str__ that calls sys.exit
        return f"{type(exc).__name__}: <could not be described: {type(second).__name__}>"


def _clip(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return text[:limit] + f" [... {len(text) - limit} characters left out ...]"
