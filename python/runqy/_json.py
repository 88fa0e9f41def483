"""JSON as the protocol has it."""

from __future__ import annotations

import json
from typing import Any

# Readable text in Redis, and half the bytes for most languages; see dump for what UTF-8 cannot carry.
_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, ensure_ascii=True, separators=(",", ":")).encode


def dump(value: Any) -> bytes:
    try:
        return _encode(value).encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate: JSON can spell it as an escape, UTF-8 cannot carry it.
        return _encode_ascii(value).encode("ascii")
