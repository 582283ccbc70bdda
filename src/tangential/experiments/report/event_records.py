"""Records of TensorBoard event files, read with their checksums; where a file is damaged the records before it count.

A record is its length (8 bytes), a checksum of the length, the data, and a checksum of the data, one after the other.
A writer that was killed leaves a file that ends within a record. Nothing is known of what follows a damaged record, as
its length may be wrong, so reading ends there and the caller notes it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

LARGEST = 1 << 28
"""Bytes of a record, 256 MiB: an image or a graph; a scalar has some 50."""

_HEAD, _FOOT = struct.Struct("<QI"), struct.Struct("<I")


def events(path: Path, note: Callable[[str], object]) -> Iterator[Any]:
    """Events of one file, in the order they were written.

    Args:
        path: A regular file.
        note: Called with one line where the file is damaged.

    Raises:
        ValueError: The package `tensorboard` is missing.
        OSError: The file cannot be read.
    """
    event = _event_class()
    with path.open("rb") as file:
        number = 0
        try:
            for number, data in enumerate(_records(file), start=1):  # noqa: B007
                yield event.FromString(data)
        except GeneratorExit:
            raise
        except ValueError as error:
            note(f"{path}: {error}; {number} records before are read")
        except Exception as error:  # protobuf's own DecodeError
            note(f"{path}: record {number} is no event ({type(error).__name__}); {number - 1} records before are read")


def _records(file: BinaryIO) -> Iterator[bytes]:
    checksum = _checksum()
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size:
            raise ValueError("it ends within a record")
        length, sum_of_length = _HEAD.unpack(head)
        if checksum(head[:8]) != sum_of_length:
            raise ValueError("the checksum of a length is wrong")
        if length > LARGEST:
            raise ValueError(f"a record has {length:,} bytes")
        data, foot = file.read(length), file.read(_FOOT.size)
        if len(data) < length or len(foot) < _FOOT.size:
            raise ValueError("it ends within a record")
        if checksum(data) != _FOOT.unpack(foot)[0]:
            raise ValueError("the checksum of a record is wrong")
        yield data


def _checksum() -> Callable[[bytes], int]:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    return masked_crc32c


def _event_class() -> Any:
    try:
        from tensorboard.compat.proto import event_pb2
    except ModuleNotFoundError as error:
        raise ValueError("tensorboard is not installed; run: pip install 'tangential[tensorboard]'") from error
    return event_pb2.Event  # type: ignore[attr-defined]  # protobuf makes it when it is imported
