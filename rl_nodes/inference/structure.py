# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What is the same in two versions of one network: the ONNX file without its weights.

The bytes are walked as they are (protobuf's wire format), in bounded time and without copies, so
this may be asked of a file that nobody has looked at yet. Parsing it would not do: a few megabytes
of empty messages become gigabytes of objects.
"""

from collections.abc import Iterator
import hashlib

from rl_nodes.core.errors import BundleError

MAX_FIELDS = 100_000  # of the model, its graph and its weights together
# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_METADATA = 7, 14
GRAPH_INITIALIZER = 5
TENSOR_DATA_TYPE, TENSOR_RAW_DATA = 2, 9
FLOAT = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def structure(onnx_bytes: bytes) -> str:
    """
    Return the SHA-256 of an ONNX file without float32 weights and metadata, in hexadecimal.

    Integers stay, because shapes may hang on them. How long a run takes and how much memory it
    needs is the same in files of one structure.

    :raises BundleError: not the wire format, or more parts than a policy has.
    """
    digest = hashlib.sha256()
    walk = _Walk()
    for field, wire, value in walk.fields(memoryview(onnx_bytes)):
        if (field, wire) == (MODEL_GRAPH, _BYTES):
            digest.update(b'graph')
            for inner, inner_wire, part in walk.fields(value):
                if (inner, inner_wire) == (GRAPH_INITIALIZER, _BYTES):
                    _add_weight(digest, walk, part)
                else:
                    _add(digest, inner, part)
            digest.update(b'end')
        elif field != MODEL_METADATA:
            _add(digest, field, value)
    return digest.hexdigest()


def _add_weight(digest: 'hashlib._Hash', walk: '_Walk', tensor: memoryview) -> None:
    fields = list(walk.fields(tensor))
    kinds = [bytes(value[:2]) for field, _, value in fields if field == TENSOR_DATA_TYPE]
    is_float = kinds == [bytes([FLOAT])]  # once: of two, the last would count
    digest.update(b'weight')
    for field, _, value in fields:
        if is_float and field == TENSOR_RAW_DATA:
            digest.update(f'{len(value)} bytes'.encode())
        else:
            _add(digest, field, value)


def _add(digest: 'hashlib._Hash', field: int, value: memoryview) -> None:
    digest.update(f'{field}:{len(value)}:'.encode())
    digest.update(value)


class _Walk:
    """Goes through fields and counts them."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def fields(self, message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
        """Yield (field number, wire type, value without its length) of one message."""
        at = 0
        while at < len(message):
            self._left -= 1
            if self._left < 0:
                raise BundleError(f'has more than {MAX_FIELDS} parts, the most that are accepted; '
                                  'export a smaller network')
            key, at = _varint(message, at)
            field, wire = key >> 3, key & 7
            if wire == _VARINT:
                begin, (_, at) = at, _varint(message, at)
            elif wire == _BYTES:
                size, begin = _varint(message, at)
                at = begin + size
            elif wire in (_FIXED32, _FIXED64):
                begin, at = at, at + (4 if wire == _FIXED32 else 8)
            else:
                raise _not_onnx()
            if at > len(message):
                raise _not_onnx()
            yield field, wire, message[begin:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _not_onnx()


def _not_onnx() -> BundleError:
    return BundleError('not an ONNX file, or a truncated one; export the policy again')
