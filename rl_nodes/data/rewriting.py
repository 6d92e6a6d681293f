# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Write a new episode of an old one, which stays as it is."""

from collections.abc import Iterable, Mapping
from pathlib import Path
import shutil

from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import RecordingError
from rl_nodes.data.episode_file import LockedFile, open_mcap, publish
from rl_nodes.data.reader import CONTRACT_ATTACHMENT, Episode, METADATA, RecordedMessage, scan
from rl_nodes.data.recovery import COPY_SUFFIX
from rl_nodes.data.schemas import message_schema


def rewrite(episode: Episode, final: Path, messages: Iterable[RecordedMessage],
            changes: Mapping[str, str], contract: Contract | None = None) -> Path:
    """
    Write an episode with other messages; verified before it gets its name.

    :param episode: where provenance and message types are taken from.
    :param final: the new file.
    :param messages: all that it is to hold, in order.
    :param changes: metadata that differ.
    :param contract: that it is to have; None for the same.
    :raises RecordingError: it cannot be written, or a file of that name exists.
    """
    count, copy = 0, final.with_name(final.name + COPY_SUFFIX)
    text = episode.contract_json if contract is None else contract.to_json()
    fingerprint = {} if contract is None else {
        'contract': contract.fingerprint(), 'robot': contract.robot, 'task': contract.task}
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        file = LockedFile(copy, replace=True)
        try:
            mcap, channels = open_mcap(file), {}
            for message in messages:
                if message.topic not in channels:
                    channels[message.topic] = mcap.add_channel(
                        message.topic, *(episode.definitions.get(message.topic)
                                         or (message_schema(message.type_name), '')))
                mcap.add_message(channels[message.topic], message.log_time_ns, message.data,
                                 message.publish_time_ns, message.sequence)
                count += 1
            mcap.flush()
            mcap.add_attachment(CONTRACT_ATTACHMENT, text.encode())
            mcap.add_metadata(METADATA, {**episode.metadata, **changes, **fingerprint,
                                         'messages': str(count)})
            mcap.finish()
            file.sync()
        finally:
            file.close()
        if scan(copy).message_count != count:
            raise RecordingError(f'{copy} does not hold the {count} messages written to it')
        publish(copy, final)
    except OSError as error:
        copy.unlink(missing_ok=True)
        raise RecordingError(f'{final} cannot be written: {error}') from error
    except RecordingError:
        copy.unlink(missing_ok=True)
        raise
    return final


def copy_episode(source: Path, final: Path) -> Path:
    """
    Copy a file byte for byte; complete or not at all.

    :raises RecordingError: it cannot be written, or a file of that name exists.
    """
    copy = final.with_name(final.name + COPY_SUFFIX)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        publish(copy, final)
    except OSError as error:
        copy.unlink(missing_ok=True)
        raise RecordingError(f'{final} cannot be written: {error}') from error
    return final
