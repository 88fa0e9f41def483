"""JSON as the protocol writes it."""

from __future__ import annotations

import json
from json import encoder as _module
from typing import Any, Callable, Dict

# Not ASCII only: the text is readable in Redis, and takes half the bytes in most languages.
_slow = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))

#: A string as JSON, with its quotes.
quote: Callable[[str], str] = getattr(_module, "encode_basestring")


def _cached_encoder() -> Callable[[Any], str]:
    # JSONEncoder.encode builds such an encoder for every value, which takes longer than most values do.
    make = getattr(_module, "c_make_encoder", None)
    if make is None:  # PyPy
        return _slow.encode
    containers: Dict[int, Any] = {}  # those that the encoder is in, by id; it finds one that contains itself
    chunks = make(containers, _slow.default, quote, None, ":", ",", False, False, False)
    join = "".join

    def encode(value: Any) -> str:
        try:
            return join(chunks(value, 0))
        except BaseException as exc:
            containers.clear()
            if not isinstance(exc, Exception):
                raise
        # An encoder of its own decides: another thread may have been in the middle of the same value.
        return _slow.encode(value)

    return encode


#: The value as JSON, without spaces. Raises what json.dumps raises; nan and infinities are refused.
encode = _cached_encoder()


def dump(value: Any) -> bytes:
    """The value as JSON in UTF-8. Raises what encode raises."""
    return to_utf8(encode(value))


def to_utf8(text: str) -> bytes:
    """JSON in UTF-8, which cannot hold a lone surrogate: it becomes the escape that JSON has for it."""
    return text.encode("utf-8", "backslashreplace")
