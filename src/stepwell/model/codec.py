"""Values cross the journal as canonical JSON bytes, read and written by the type hints of the function.

Equal values give equal bytes whatever the order of dict members or sets, so the bytes can be hashed for
fingerprints and idempotency. What is read back is what the hint declares, not the object that was written: hand the
decoded value on, the first time too, and a replay cannot differ. Nothing is ever pickled.

`ValueCodec` is for one value, `CallCodec` for the parameters and the result of a function.
"""

from __future__ import annotations

import hashlib
import zlib

from stepwell.model.signature import CallCodec
from stepwell.model.values import ValueCodec

__all__ = ["CallCodec", "ValueCodec", "checksum", "content_hash", "is_typed"]


def content_hash(data: bytes) -> str:
    """Return the name under which a payload is kept: BLAKE2b of 16 bytes, as 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def checksum(data: bytes) -> int:
    """Return the CRC-32 that tells a damaged row from a whole one (0 to 2**32 - 1)."""
    return zlib.crc32(data)


def is_typed(value: object) -> bool:
    """Whether the value's own class says how to write it (dataclasses, structs, models)."""
    kind = type(value)
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__struct_fields__") or hasattr(kind, "model_fields")
