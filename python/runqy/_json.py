"""JSON as the protocol writes it."""

from __future__ import annotations

import json
from typing import Any

# Not ASCII only: the text is readable in Redis, and takes half the bytes in most languages.
_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, ensure_ascii=True, separators=(",", ":")).encode


def dump(value: Any) -> bytes:
    """The value as JSON in UTF-8, without spaces. Raises what json.dumps raises; nan and infinities are refused."""
    try:
        return _encode(value).encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate: UTF-8 cannot hold it, but JSON can write it as an escape.
        return _encode_ascii(value).encode("ascii")
