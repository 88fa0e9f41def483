"""The lines of the protocol: reading requests, and the JSON of every message that this process sends."""

from __future__ import annotations

import base64
import gc
import json
import math
import os
import platform
import re
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from ._context import Context
from ._deadline import effective_deadline
from ._errors import BadRequest, classify, describe, says_broken
from ._channel import Line
from ._json import dump, encode, quote, to_utf8
from ._registry import Handler
from ._report import TaskProgress
from ._version import __version__

#: The version of the protocol; docs/python.md describes it.
PROTOCOL = 2

#: What the worker may send beyond tasks, and what replies may say beyond those of the first version.
FEATURES = ["ping", "cancel", "withdraw", "check", "stack", "broken"]

#: The error of a task that was cancelled before its handler was called.
CANCELLED = "Cancelled: the worker cancelled this task before it started"

#: The error of a task whose deadline was over before its handler was called; the text is asynq's.
OVERDUE = "DeadlineExceeded: context deadline exceeded before the task began"

#: A line that was read. The view of a large one ends when its request is made.
Input = Union[bytes, memoryview]

#: A result that is longer is a piece of its own, which is not copied into a line.
_LARGE = 64 * 1024

_scan: Callable[[str, int], Tuple[Any, int]] = getattr(json.JSONDecoder(), "scan_once")
_TAKEN: Dict[str, Any] = {}
# The worker writes task_id first, so that a line that Python cannot read can still be answered.
_LEADING_TASK_ID = re.compile(r'\s*\{\s*"task_id"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.)*")')


class Overdue(Exception):
    """The deadline of a task was over when its handler was to be called."""


class Request(TaskProgress):
    """A task that was received and whose reply is not yet written."""

    __slots__ = ("message", "handler", "context", "begun", "cancelled")

    def __init__(self, message: Dict[str, Any], handler: Handler) -> None:
        # What TaskProgress.__init__ does, without the call of it: this runs for every task.
        self.task_id = message["task_id"]
        self._ended = False
        self._reports = None
        self.message = message
        self.handler = handler
        self.context: Optional[Context] = None
        self.begun = 0.0  # on the monotonic clock; 0.0 until the arguments are there
        self.cancelled = False

    def arguments(self, loaded: Any) -> Tuple[Any, ...]:
        """The arguments for the handler, which is to be called at once: its time counts from here.

        Raises BadRequest or Overdue for a task that cannot begin. Drops the message, so that a large payload does not
        outlive its handler.
        """
        message, self.message = self.message, _TAKEN
        if "payload_base64" in message:
            try:
                payload: Any = base64.b64decode(message["payload_base64"], validate=True)
            except (TypeError, ValueError) as exc:
                raise BadRequest(f"payload_base64 is not base64: {exc}") from None
        else:
            payload = message.get("payload")
        deadline, timeout, now = (message.get("deadline"), message.get("timeout"), time.time())
        # A timeout alone is over only if it is negative; the rest is worked out when the handler asks for it.
        if deadline is not None or (timeout is not None and not (type(timeout) is int and timeout > 0)):
            until = effective_deadline(deadline, timeout, now)
            if until is not None and until <= now:
                raise Overdue
        if not self.handler.wants_context:
            self.begun = time.monotonic()
            return (payload,)
        context = Context(
            task_id=self.task_id,
            type=message.get("type") or "",
            queue=message.get("queue") or "",
            retry_count=message.get("retry_count") or 0,
            max_retry=message.get("max_retry") or 0,
            deadline=deadline or None,
            headers=message.get("headers") or {},
            loaded=loaded,
        )
        context._progress = self
        if timeout is not None:
            context._begin(timeout, now)
        self.context = context
        if self.cancelled:
            self.cancel()
        self.begun = time.monotonic()
        return (payload, context)

    def ran(self) -> Optional[float]:
        """For how many seconds the handler has run until now; None when it was not called."""
        return time.monotonic() - self.begun if self.begun else None

    def end(self) -> None:
        """The reply comes next: send what was reported before it, and ignore later reports."""
        self.context = None  # which refers to this request
        self._ended = True
        if self._reports is not None:
            self._send_last(self._reports)

    def cancel(self) -> None:
        """Show the handler, in its context, that it should end."""
        self.cancelled = True
        context = self.context
        if context is not None:
            context._cancelled = True


class Waiting(Dict[Request, None]):
    """Requests that have not begun. The thread that removes one from here answers it: the thread that runs handlers, or
    the reader, when it is cancelled or withdrawn."""

    #: None of them begins any more: a handler has raised Broken. The worker asks for them back.
    closed = False


def parse(raw: Input) -> Any:
    """The JSON value on a line.

    Raises ValueError when the line is not exactly one value, and RecursionError when the value is nested too deeply.
    """
    # A lone surrogate written in UTF-8 is accepted, as json.loads does.
    line = str(raw, "utf-8", "surrogatepass")
    try:
        value, end = _scan(line, 0)
        if end == len(line):
            return value
    except StopIteration:
        pass  # it begins with a space, or is no JSON
    return json.loads(line)


def leading_task_id(line: str) -> Optional[str]:
    """The task id at the beginning of a line that cannot be parsed, or None."""
    match = _LEADING_TASK_ID.match(line)
    if match is None:
        return None
    try:
        task_id: str = json.loads(match.group(1))
    except ValueError:
        return None
    return task_id


def success_reply(task_id: Any, result: Any, seconds: float) -> Line:
    """The reply with a handler's return value, or the reply that says why the value is not JSON."""
    try:
        text = encode(result)
        name = quote(task_id) if type(task_id) is str else encode(task_id)
        if len(text) > _LARGE:
            head, tail = (f'{{"task_id":{name},"result":', f',"error":null,"retry":false,"seconds":{seconds:.6f}}}\n')
            return to_utf8(head), to_utf8(text), to_utf8(tail)
        return to_utf8(f'{{"task_id":{name},"result":{text},"error":null,"retry":false,"seconds":{seconds:.6f}}}\n')
    except BaseException as exc:
        return failure_reply(task_id, "ResultError: " + _explain(result, exc), True, seconds=seconds)


def error_reply(task_id: Any, exc: BaseException, seconds: Optional[float]) -> bytes:
    """The reply with an exception that a handler raised; seconds is how long it ran, None if it never began."""
    if isinstance(exc, Overdue):
        return failure_reply(task_id, OVERDUE, True)
    retry, delay = classify(exc)
    return failure_reply(task_id, describe(exc), retry, delay, seconds, says_broken(exc))


def cancelled_reply(task_id: Any, exc: BaseException, seconds: Optional[float]) -> bytes:
    """The reply of a task that the worker cancelled while it ran. The traceback shows where it was."""
    return failure_reply(task_id, "Cancelled: the worker cancelled this task\n" + describe(exc), True, seconds=seconds)


def failure_reply(
    task_id: Any,
    error: str,
    retry: bool,
    delay: Optional[float] = None,
    seconds: Optional[float] = None,
    broken: bool = False,
) -> bytes:
    """The reply of a task that has failed.

    delay, in seconds, is for a retry; 0 is at once, None leaves it to the queue. seconds is how long the handler ran.
    broken says that this process cannot work any more.
    """
    reply: Dict[str, Any] = {"task_id": task_id, "result": None, "error": error, "retry": retry}
    if delay is not None:
        reply["retry_delay"] = delay
    if broken:
        reply["broken"] = True
    text = encode(reply)
    if seconds is not None:
        text = f'{text[:-1]},"seconds":{seconds:.6f}}}'
    return to_utf8(text + "\n")


def withdrawn(task_id: Any) -> bytes:
    """The answer to a withdraw of a task that has not begun."""
    return dump({"withdrawn": task_id}) + b"\n"


def stack(number: Any, text: str) -> bytes:
    """The answer to a question for the stacks."""
    return dump({"stack": number, "text": text}) + b"\n"


def checked(number: Any, error: Optional[str]) -> bytes:
    """The answer to a check; error says what is wrong, None that nothing is."""
    answer = {"check": number, "ok": error is None}
    if error is not None:
        answer["error"] = error
    return dump(answer) + b"\n"


def ready(handlers: str, types: Dict[str, str]) -> bytes:
    """The ready message; handlers is "sync" or "async", and types says the same of each task type."""
    version = sys.version_info
    message = {
        "status": "ready",
        "protocol": PROTOCOL,
        "handlers": handlers,
        "types": types,
        "features": FEATURES,
        "python": {
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
            "major": version[0],
            "minor": version[1],
            "patchlevel": version[2],
        },
        "sdk": __version__,
        # The command may be a wrapper, whose process is the parent of this one.
        "pid": os.getpid(),
    }
    return dump(message) + b"\n"


def startup_error(error: str) -> bytes:
    """The message, instead of the ready message, of a process that failed to start."""
    return dump({"status": "error", "error": error}) + b"\n"


def pong(number: Any, lag: float, main: bool) -> bytes:
    """The answer to a ping; lag is in seconds, main says whether the main thread is in run()."""
    generations = []
    for generation, stats in enumerate(gc.get_stats() if hasattr(gc, "get_stats") else []):
        # PyPy's get_stats returns an object of another kind. Then no generation is reported.
        if isinstance(stats, dict):
            generations.append(
                {
                    "generation": generation,
                    "collections": stats["collections"],
                    "collected": stats["collected"],
                    "uncollectable": stats["uncollectable"],
                }
            )
    return dump({"pong": number, "lag": round(lag, 6), "main": main, "stats": {"gc": generations}}) + b"\n"


def _explain(result: Any, exc: BaseException) -> str:
    """Why result is not JSON: the place in it, the type there, and what to do."""
    if isinstance(exc, MemoryError):
        return "not enough memory to write the result as JSON"
    try:
        found = _first_invalid(result)
    except BaseException:
        found = None
    if found is not None:
        return found
    if isinstance(exc, RecursionError):
        return "the result is nested too deeply to be JSON"
    reason = describe(exc).split("\n", 1)[0]
    return f"the result (a {_type_name(result)}) is not JSON: {reason}"


def _first_invalid(result: Any) -> Optional[str]:
    # Runs only after the encoder has refused the result. It has its own stack: the result may be nested too deeply.
    pending: List[Tuple[str, Any, int]] = [("result", result, 0)]
    on_path: List[int] = []
    while pending:
        where, value, depth = pending.pop()
        del on_path[depth:]
        if value is None or isinstance(value, (str, bool, int)):
            if isinstance(value, int):
                try:
                    int.__repr__(value)
                except ValueError:
                    return f"{_shorten(where)} is an integer with too many digits; return it as a string (hex(n))"
            continue
        if isinstance(value, float):
            if not math.isfinite(value):
                return f"{_shorten(where)} is {value!r}, which JSON does not have; return None or a string instead"
            continue
        if isinstance(value, (dict, list, tuple)):
            if id(value) in on_path:
                return f"{_shorten(where)} contains itself"
            if depth > 5000:
                return "the result is nested too deeply to be JSON"
            on_path.append(id(value))
            if isinstance(value, dict):
                for key in value:
                    if key is not None and not isinstance(key, (str, int, float, bool)):
                        return f"{_shorten(where)} has a key of type {_type_name(key)}; JSON keys are strings"
                    if isinstance(key, float) and not math.isfinite(key):
                        return f"{_shorten(where)} has the key {key!r}, which JSON does not have"
                children = [(f"{where}[{_key(key)}]", child) for key, child in value.items()]
            else:
                children = [(f"{where}[{index}]", child) for index, child in enumerate(value)]
            pending.extend((path, child, depth + 1) for path, child in reversed(children))
            continue
        name = _type_name(value)
        if name == "coroutine":
            value.close()
            return f"{_shorten(where)} is a coroutine; declare the handler `async def` and await it"
        return (
            f"{_shorten(where)} is of type {name}, which is not JSON; return dict, list, str, int, float, bool or None"
        )
    return None


def _key(key: Any) -> str:
    text = ascii(key)
    return text if len(text) <= 60 else text[:60] + "..."


def _shorten(where: str) -> str:
    return where if len(where) <= 300 else where[:150] + "..." + where[-150:]


def _type_name(value: Any) -> str:
    kind = type(value)
    module = kind.__module__
    return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
