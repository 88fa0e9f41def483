"""Lines in, lines out: the JSON of the protocol, and nothing about when they are sent."""

from __future__ import annotations

import base64
import gc
import json
import math
import os
import platform
import re
import sys
from typing import Any, Dict, List, Optional, Tuple

from ._context import Context
from ._errors import BadRequest, describe, verdict
from ._json import dump
from ._registry import Handler
from ._report import Meter
from ._version import __version__

PROTOCOL = 2

CANCELLED = "Cancelled: the worker cancelled this task before it started"

_scan = json.JSONDecoder().raw_decode
# The worker writes task_id first, so that a line Python cannot read can still be answered.
_LEADING_ID = re.compile(r'\s*\{\s*"task_id"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.)*")')


class Request:
    """One task as it came in; lives until its reply is written."""

    __slots__ = ("message", "handler", "task_id", "context", "meter", "started", "cancelled")

    def __init__(self, message: Dict[str, Any], handler: Optional[Handler]) -> None:
        self.message = message
        self.handler = handler
        self.task_id = message["task_id"]
        self.context: Optional[Context] = None
        self.meter = Meter(self.task_id)
        self.started = False
        self.cancelled = False

    def arguments(self, loaded: Any) -> Tuple[Any, ...]:
        """What to call the handler with. Drops the message, so that a large payload lives only as long as its task."""
        message, self.message = self.message, {}
        if "payload_base64" in message:
            try:
                payload: Any = base64.b64decode(message["payload_base64"], validate=True)
            except (TypeError, ValueError) as exc:
                raise BadRequest(f"payload_base64 is not base64: {exc}") from None
        else:
            payload = message.get("payload")
        if self.handler is None or not self.handler.wants_context:
            return (payload,)
        context = Context(
            task_id=self.task_id,
            type=message.get("type") or "",
            queue=message.get("queue") or "",
            retry_count=message.get("retry_count") or 0,
            max_retry=message.get("max_retry") or 0,
            deadline=message.get("deadline") or None,
            headers=message.get("headers") or {},
            loaded=loaded,
        )
        context._meter = self.meter
        self.context = context
        if self.cancelled:
            self.cancel()
        return (payload, context)

    def cancel(self) -> None:
        """Let the handler see, through its context, that it should end."""
        self.cancelled = True
        context = self.context
        if context is not None:
            context._cancelled = True


def parse(line: str) -> Any:
    """The value of one line. ValueError when it is not exactly one JSON value; RecursionError when nested too deeply."""
    if line[:1] != "{":
        line = line.strip()
    value, end = _scan(line)
    if end != len(line) and line[end:].strip():
        raise ValueError("more than one JSON value on the line")
    return value


def leading_id(line: str) -> Optional[str]:
    """The task id at the very beginning of a line that cannot be parsed, or None."""
    match = _LEADING_ID.match(line)
    if match is None:
        return None
    try:
        return json.loads(match.group(1))
    except ValueError:
        return None


def success(task_id: Any, result: Any) -> bytes:
    """The reply line for a handler's return value, or the reply that says why that value cannot be one."""
    try:
        return _reply(task_id, dump(result))
    except BaseException as exc:
        return failure(task_id, "ResultError: " + _complaint(result, exc), True)


def raised(task_id: Any, exc: BaseException) -> bytes:
    """The reply line for an exception that came out of a handler."""
    retry, delay = verdict(exc)
    return failure(task_id, describe(exc), retry, delay)


def cancelled(task_id: Any, exc: BaseException) -> bytes:
    """The reply line of a running task that ended because the worker cancelled it; the traceback tells where."""
    return failure(task_id, "Cancelled: the worker cancelled this task\n" + describe(exc), True)


def failure(task_id: Any, error: str, retry: bool, delay: Optional[float] = None) -> bytes:
    reply: Dict[str, Any] = {"task_id": task_id, "result": None, "error": error, "retry": retry}
    if delay is not None:
        reply["retry_delay"] = delay
    return dump(reply) + b"\n"


def ready(handlers: str) -> bytes:
    version = sys.version_info
    message = {
        "status": "ready",
        "protocol": PROTOCOL,
        "handlers": handlers,
        "python": {
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
            "major": version[0],
            "minor": version[1],
            "patchlevel": version[2],
        },
        "sdk": __version__,
        # The command may be a wrapper, which keeps a process of its own in front of this one.
        "pid": os.getpid(),
    }
    return dump(message) + b"\n"


def broken(error: str) -> bytes:
    """The line of a process that could not get ready."""
    return dump({"status": "error", "error": error}) + b"\n"


def pong(number: Any, lag: float) -> bytes:
    generations = []
    for generation, stats in enumerate(gc.get_stats() if hasattr(gc, "get_stats") else []):
        # PyPy has a get_stats of another kind, which cannot be enumerated this way and reports nothing here.
        if isinstance(stats, dict):
            generations.append(
                {
                    "generation": generation,
                    "collections": stats["collections"],
                    "collected": stats["collected"],
                    "uncollectable": stats["uncollectable"],
                }
            )
    return dump({"pong": number, "lag": round(lag, 6), "stats": {"gc": generations}}) + b"\n"


def _reply(task_id: Any, result: bytes) -> bytes:
    return b'{"task_id":%b,"result":%b,"error":null,"retry":false}\n' % (dump(task_id), result)


def _complaint(result: Any, exc: BaseException) -> str:
    """Why result is not JSON: where in it, which type, and what to do."""
    if isinstance(exc, MemoryError):
        return "not enough memory to write the result as JSON"
    try:
        found = _first_fault(result)
    except BaseException:
        found = None
    if found is not None:
        return found
    if isinstance(exc, RecursionError):
        return "the result is nested too deeply to be JSON"
    reason = describe(exc).split("\n", 1)[0]
    return f"the result (a {_type_name(result)}) is not JSON: {reason}"


def _first_fault(result: Any) -> Optional[str]:
    # Only runs after the encoder has refused. Keeps its own stack, since a deep result is one of the reasons.
    todo: List[Tuple[str, Any, int]] = [("result", result, 0)]
    on_path: List[int] = []
    while todo:
        where, value, depth = todo.pop()
        del on_path[depth:]
        if value is None or isinstance(value, (str, bool, int)):
            if isinstance(value, int):
                try:
                    int.__repr__(value)
                except ValueError:
                    return f"{_short(where)} is an integer with too many digits; return it as a string (hex(n))"
            continue
        if isinstance(value, float):
            if not math.isfinite(value):
                return f"{_short(where)} is {value!r}, which JSON does not have; return None or a string instead"
            continue
        if isinstance(value, (dict, list, tuple)):
            if id(value) in on_path:
                return f"{_short(where)} contains itself"
            if depth > 5000:
                return "the result is nested too deeply to be JSON"
            on_path.append(id(value))
            if isinstance(value, dict):
                for key in value:
                    if key is not None and not isinstance(key, (str, int, float, bool)):
                        return f"{_short(where)} has a key of type {_type_name(key)}; JSON keys are strings"
                    if isinstance(key, float) and not math.isfinite(key):
                        return f"{_short(where)} has the key {key!r}, which JSON does not have"
                children = [(f"{where}[{_key(key)}]", child) for key, child in value.items()]
            else:
                children = [(f"{where}[{index}]", child) for index, child in enumerate(value)]
            todo.extend((path, child, depth + 1) for path, child in reversed(children))
            continue
        name = _type_name(value)
        if name == "coroutine":
            value.close()
            return f"{_short(where)} is a coroutine; declare the handler `async def` and await it"
        return f"{_short(where)} is of type {name}, which is not JSON; return dict, list, str, int, float, bool or None"
    return None


def _key(key: Any) -> str:
    text = ascii(key)
    return text if len(text) <= 60 else text[:60] + "..."


def _short(where: str) -> str:
    return where if len(where) <= 300 else where[:150] + "..." + where[-150:]


def _type_name(value: Any) -> str:
    kind = type(value)
    module = kind.__module__
    return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
