# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What rosbag2 wants to know of recordings beside their messages: QoS profiles and ``metadata.yaml``.

A folder of episodes is a bag of several files to ``ros2 bag``, as soon as it has the
``metadata.yaml`` that :func:`index_folder` writes (version 9, as ROS 2 Jazzy does). What it says
is taken from the summary at the end of each file, so folders of thousands are done in a second.
"""

from collections.abc import Iterable
import contextlib
from dataclasses import dataclass
import os
from pathlib import Path
import struct
from typing import Any, BinaryIO

from rl_nodes.core.errors import RecordingError
from rl_nodes.core.timing import NS
from rl_nodes.data.mcap_format import (
    Channel,
    Cursor,
    MAGIC,
    Opcode,
    read_channel,
    read_records,
    read_schema,
)
import yaml

INDEX_NAME = 'metadata.yaml'
VERSION = 9
FOREVER_NS = 2**63 - 1  # what rmw calls infinite

_FOOTER = struct.Struct('<BQQQI')
_COUNT = struct.Struct('<HQ')


def offered_qos(profiles: Iterable[dict[str, Any]]) -> str:
    """
    Return QoS profiles of publishers as recordings carry them, YAML; equal ones once.

    :param profiles: see :func:`qos_profile`.
    """
    different = {str(profile): profile for profile in profiles}
    return yaml.safe_dump(list(different.values()), sort_keys=False)


def qos_profile(history: str, depth: int, reliability: str, durability: str,
                liveliness: str = 'automatic', deadline_ns: int = FOREVER_NS,
                lifespan_ns: int = FOREVER_NS, lease_ns: int = FOREVER_NS) -> dict[str, Any]:
    """Return one QoS profile with the keys of rosbag2; names in lower case, 0 ns for infinite."""
    return {
        'history': history, 'depth': depth, 'reliability': reliability, 'durability': durability,
        'deadline': _time(deadline_ns), 'lifespan': _time(lifespan_ns), 'liveliness': liveliness,
        'liveliness_lease_duration': _time(lease_ns), 'avoid_ros_namespace_conventions': False}


def _time(ns: int) -> dict[str, int]:
    seconds, rest = divmod(ns or FOREVER_NS, NS)
    return {'sec': seconds, 'nsec': rest}


@dataclass(frozen=True)
class _File:
    """What the summary of a file says; times in ns."""

    name: str
    start_ns: int
    end_ns: int
    messages: int
    topics: tuple[tuple[Channel, str, int], ...]  # with type and number of messages

    def lines(self) -> dict[str, Any]:
        return {'path': self.name, 'starting_time': {'nanoseconds_since_epoch': self.start_ns},
                'duration': {'nanoseconds': self.end_ns - self.start_ns},
                'message_count': self.messages}


def index_folder(directory: Path) -> Path | None:
    """
    Write the ``metadata.yaml`` of a folder of complete recordings, all of it at once.

    Files without a readable summary are left out, as unfinished ones are.

    :return: what was written; None where there is no recording with a message.
    :raises RecordingError: it cannot be written.
    """
    files = []
    for path in sorted(directory.glob('*.mcap')):
        with contextlib.suppress(RecordingError, OSError):
            found = _read_summary(path)
            if found.messages:
                files.append(found)
    index, new = directory / INDEX_NAME, directory / f'.{INDEX_NAME}'
    if not files:
        return None
    try:
        new.write_text(yaml.dump(_metadata(files), Dumper=_Dumper, sort_keys=False))
        new.replace(index)
    except OSError as error:
        raise RecordingError(f'{index} cannot be written: {error}') from error
    return index


def _metadata(files: list[_File]) -> dict[str, Any]:
    start, end = min(file.start_ns for file in files), max(file.end_ns for file in files)
    topics: dict[tuple[str, str], dict[str, Any]] = {}
    for file in files:
        for channel, kind, count in file.topics:
            key = channel.topic, kind
            if key not in topics:   # reading profiles takes longer than the rest of a file
                topics[key] = {'topic_metadata': {
                    'name': channel.topic, 'type': kind, 'serialization_format': 'cdr',
                    'offered_qos_profiles': _profiles(channel),
                    'type_description_hash': channel.metadata.get('topic_type_hash', '')},
                    'message_count': 0}
            topics[key]['message_count'] += count
    return {'rosbag2_bagfile_information': {
        'version': VERSION, 'storage_identifier': 'mcap',
        'duration': {'nanoseconds': end - start},
        'starting_time': {'nanoseconds_since_epoch': start},
        'message_count': sum(file.messages for file in files),
        'topics_with_message_count': list(topics.values()),
        'compression_format': '', 'compression_mode': '',
        'relative_file_paths': [file.name for file in files],
        'files': [file.lines() for file in files],
        'custom_data': None, 'ros_distro': os.environ.get('ROS_DISTRO', 'jazzy')}}


def _profiles(channel: Channel) -> list[Any]:
    try:
        found = yaml.safe_load(channel.metadata.get('offered_qos_profiles', ''))
    except yaml.YAMLError:
        found = None
    return found if isinstance(found, list) else []


class _Dumper(getattr(yaml, 'CSafeDumper', yaml.SafeDumper)):  # type: ignore[misc]  # no stubs
    """Writes everything out: rosbag2's reader knows no references to what came before."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _read_summary(path: Path) -> _File:
    size = path.stat().st_size
    with path.open('rb') as stream:
        _seek_summary(stream, size)
        schemas, channels, counts = {}, [], {}
        messages = start = end = 0
        for record in read_records(stream, size):
            if record.opcode == Opcode.SCHEMA:
                schema = read_schema(record.body)
                schemas[schema.id] = schema.name
            elif record.opcode == Opcode.CHANNEL:
                channels.append(read_channel(record.body))
            elif record.opcode == Opcode.STATISTICS:
                cursor = Cursor(record.body)
                messages = cursor.number(8)
                cursor.take(18)  # how many of each other kind of record there are
                start, end = cursor.number(8), cursor.number(8)
                packed = cursor.take(cursor.number(4))
                counts = dict(_COUNT.iter_unpack(packed[:len(packed) // 10 * 10]))
    return _File(path.name, start, end, messages, tuple(
        (channel, schemas.get(channel.schema, ''), counts.get(channel.id, 0))
        for channel in channels))


def _seek_summary(stream: BinaryIO, size: int) -> None:
    tail = _FOOTER.size + len(MAGIC)
    if size < tail + len(MAGIC):
        raise RecordingError(f'{size} bytes are no recording')
    stream.seek(size - tail)
    opcode, _, summary, _, _ = _FOOTER.unpack(stream.read(_FOOTER.size))
    if opcode != Opcode.FOOTER or stream.read() != MAGIC or not 0 < summary < size - tail:
        raise RecordingError('it has no summary')
    stream.seek(summary)
