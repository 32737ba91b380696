"""LMDB keys of metadata values, in the order of the values.

    key     = field  type  value
    field   = length (one byte, 0 to 200)  UTF-8 name          | 0xFF  digest (16 bytes)
    value   = 0x00 or 0x01                                       type 1, booleans
            | IEEE 754 double, big-endian, bits made sortable    type 2, numbers
            | UTF-8 bytes                                        type 3, strings of at most 280
            | their first 280 bytes  0xFF  digest (16 bytes)     type 3, longer strings

LMDB compares keys as bytes and takes at most 511 of them; these are at most 499. Within a field
and type, keys order as values do, and different values have different keys, save that

- numbers are compared as doubles, so integers beyond 2^53 may share a key;
- strings that share their first 280 bytes and are both longer order by digest (0xFF occurs in no
  UTF-8, so no other string has such a key): `shared_part` tells whom a range must ask again.
"""

from __future__ import annotations

import struct
from hashlib import blake2b

STRING_BYTES = 280
FIELD_BYTES = 200

_BOOLEAN, _NUMBER, _STRING = 1, 2, 3
_DIGEST_BYTES = 16
_HASHED = b"\xff"
"""Marks a digest: no length of a field name is that large, and no byte of UTF-8."""

_SIGN = 1 << 63
_ALL_BITS = (1 << 64) - 1


def encode_value(field: str, value: str | int | float | bool) -> bytes:
    """Return the key of a value: at most 499 bytes; see the module for its order.

    Args:
        field: name of the metadata field, any text UTF-8 can hold.
        value: numbers must be finite; -0.0 is 0.0, and 1 is 1.0 but not True.
    """
    if isinstance(value, bool):
        return _prefix(field, _BOOLEAN) + bytes([value])
    if isinstance(value, str):
        return _prefix(field, _STRING) + _string(value)
    return _prefix(field, _NUMBER) + _number(value)


def field_prefix(field: str, type_: type) -> tuple[bytes, bytes]:
    """Return bounds of a field's keys of one type, the first included, the second not.

    Args:
        field: name of the metadata field.
        type_: bool, str, or int or float, which are both numbers.
    """
    tag = _BOOLEAN if issubclass(type_, bool) else _STRING if issubclass(type_, str) else _NUMBER
    return _prefix(field, tag), _prefix(field, tag + 1)


def shared_part(key: bytes) -> bytes | None:
    """Return what the key of a string of more than 280 bytes shares with its likes; or None."""
    mark = len(key) - _DIGEST_BYTES - 1
    name_length = _DIGEST_BYTES if key[:1] == _HASHED else key[0]
    # Doubles may hold 0xFF as well, but are too short to reach back to the mark's place.
    cut = mark == name_length + 2 + STRING_BYTES and key[mark : mark + 1] == _HASHED
    return key[: mark + 1] if cut else None


def _prefix(field: str, tag: int) -> bytes:
    name = field.encode()
    if len(name) > FIELD_BYTES:
        return _HASHED + _digest(name) + bytes([tag])
    return bytes([len(name)]) + name + bytes([tag])


def _string(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) <= STRING_BYTES:
        return encoded
    return encoded[:STRING_BYTES] + _HASHED + _digest(encoded)


def _number(number: int | float) -> bytes:
    # Adding zero turns -0.0 into 0.0. Negative doubles grow away from zero as bits: flip them all.
    (bits,) = struct.unpack(">Q", struct.pack(">d", float(number) + 0.0))
    bits = bits ^ _ALL_BITS if bits & _SIGN else bits | _SIGN
    return struct.pack(">Q", bits)


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=_DIGEST_BYTES).digest()
