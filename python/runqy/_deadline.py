"""When a task must have ended, as asynq decides it."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Optional

_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))\Z")
_LAST = datetime.max.replace(tzinfo=timezone.utc)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def parse_time(text: str) -> datetime:
    """An RFC 3339 time as an aware datetime; digits after the microseconds are dropped.

    datetime.fromisoformat reads neither 'Z' nor nanoseconds before Python 3.11.
    """
    match = _RFC3339.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    micro = int((match.group(7) or "0")[:6].ljust(6, "0"))
    zone = timezone.utc
    if match.group(8) is None:
        offset = timedelta(hours=int(match.group(10)), minutes=int(match.group(11)))
        zone = timezone(-offset if match.group(9) == "-" else offset)
    return datetime(year, month, day, hour, minute, second, micro, zone)


def from_unix(seconds: float) -> datetime:
    """The aware datetime of a Unix time, or the last one that there is."""
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return _LAST


def effective_deadline(deadline: Any, timeout: Any, now: float) -> Optional[float]:
    """When a task that begins now must have ended, in Unix time; None when it has no deadline.

    deadline is the RFC 3339 text of its request and timeout the seconds. This is asynq's computeDeadline: of both, the
    earlier one counts, and then the timeout runs from the last full second. What cannot be read does not count.
    """
    until = _unix(deadline) if type(deadline) is str else None
    # 0 is no timeout. No timeout of asynq's is longer than an int64 of seconds.
    if type(timeout) not in (int, float) or timeout == 0 or not abs(timeout) < 1 << 63:
        return until
    seconds = float(timeout)
    if until is None:
        return now + seconds
    return min(math.floor(now) + seconds, until)


# Tasks that follow each other often have the same deadline, to the second.
@lru_cache(maxsize=64)
def _unix(text: str) -> Optional[float]:
    try:
        return (parse_time(text) - _EPOCH).total_seconds()
    except (ValueError, OverflowError):
        return None
