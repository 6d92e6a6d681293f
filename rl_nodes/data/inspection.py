# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What is wrong with recorded episodes: every file is read to its last message and named.

A *fault* keeps a file out of every data set: it cannot be read, was never finished, has another
contract, or holds something else than its metadata say. A *note* is for people: messages that were
dropped, states that never came, an episode that a fault cut.
"""

from collections.abc import Iterable
from dataclasses import dataclass
import json
from pathlib import Path

from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ContractError, RecordingError, SpecError
from rl_nodes.core.timing import NS
from rl_nodes.data.cdr import header_stamp_ns, read_text
from rl_nodes.data.reader import Episode, episode_files, PARTIAL_SUFFIX, read_episode
from rl_nodes.data.recovery import COPY_SUFFIX, DAMAGED_SUFFIX, UNREADABLE_SUFFIX

STATES = 'joint_states'
ANNOTATION, ANNOTATION_TYPE = 'recorder/annotation', 'std_msgs/msg/String'
_LEFT_BEHIND = (PARTIAL_SUFFIX, COPY_SUFFIX, DAMAGED_SUFFIX, UNREADABLE_SUFFIX)


@dataclass(frozen=True)
class Finding:
    """
    What was found of one file.

    :param path: the file.
    :param faults: why it may enter no data set; empty for a sound one.
    :param notes: what a person should know of it.
    :param episode: the opened file; None where it cannot be read.
    """

    path: Path
    faults: tuple[str, ...]
    notes: tuple[str, ...] = ()
    episode: Episode | None = None


def inspect(inputs: Iterable[str | Path], expected: Contract | None = None) -> list[Finding]:
    """
    Read every message of every file.

    :param inputs: ``.mcap`` files, and folders that hold them; what a killed recorder or a repair
        left behind in a folder is named too.
    :param expected: the contract that all have to have; None for that of most of them.
    :raises RecordingError: a folder without any such file.
    """
    findings = []
    for path in _all_files(inputs):
        try:
            if path.suffix in _LEFT_BEHIND:
                raise RecordingError(_LEFT_OVER[path.suffix])
            episode = read_episode(path)
            findings.append(Finding(path, *_contents(episode), episode))
        except RecordingError as error:
            text = str(error).removeprefix(f'{path} ')
            findings.append(Finding(path, (text,)))
    return _compared(findings, expected)


def open_episodes(inputs: Iterable[str | Path], expected: Contract | None = None
                  ) -> tuple[list[Episode], list[str]]:
    """
    Open what is to enter a data set.

    :param inputs: as of :func:`inspect`; left-over files in a folder are no matter here.
    :param expected: as of :func:`inspect`.
    :return: the episodes and what was left out, in words: void ones, which tell nothing.
    :raises RecordingError: names every file that is damaged or of another contract.
    """
    findings = inspect(episode_files(inputs), expected)
    bad = [f'  {finding.path}: {fault}' for finding in findings for fault in finding.faults]
    if bad:
        raise RecordingError('\n'.join([
            f'{len(bad)} of {len(findings)} files cannot be used; repair them ("rl_nodes dataset '
            'repair") or move them away:', *bad]))
    kept, left_out = [], []
    for finding in findings:
        if finding.episode is not None and finding.episode.metadata.get('reason') != 'void':
            kept.append(finding.episode)
        else:
            left_out.append(f'{finding.path} left out: a fault made it void')
    if not kept:
        raise RecordingError(f'no episode in {", ".join(map(str, inputs))} that counts; all '
                             f'{len(left_out)} are void')
    return kept, left_out


_LEFT_OVER = {
    PARTIAL_SUFFIX: 'is unfinished: its recorder still runs or was killed',
    COPY_SUFFIX: 'is the copy of a repair that was interrupted; repair again',
    DAMAGED_SUFFIX: 'is the damaged original of a repaired file; keep or remove it',
    UNREADABLE_SUFFIX: 'has no message that can be read'}


def _all_files(inputs: Iterable[str | Path]) -> list[Path]:
    found: list[Path] = []
    for given in map(Path, inputs):
        if not given.is_dir():
            found.append(given)
            continue
        files = sorted(path for path in given.iterdir()
                       if path.suffix == '.mcap' or '.mcap.' in path.name)
        if not files:
            raise RecordingError(f'{given} holds no .mcap file')
        found += files
    return found


def _contents(episode: Episode) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (faults, notes) of a file whose frame is sound."""
    faults, notes, metadata = [], [], episode.metadata
    lost = backwards = 0
    newest: dict[str, int] = {}
    stamps: list[int] = []
    rewarded: set[int] = set()
    for message in episode.messages():
        before = newest.get(message.topic, message.sequence - 1)
        lost += max(message.sequence - before - 1, 0)
        backwards += message.sequence <= before
        newest[message.topic] = message.sequence
        if message.topic == STATES:
            stamps.append(header_stamp_ns(message.data))
        elif message.topic == 'reward':
            rewarded.add(header_stamp_ns(message.data))
        elif message.topic == ANNOTATION and stamps:
            notes.append(_annotation(message.data, (stamps[-1] - stamps[0]) / NS))
    said = metadata.get('messages', '')
    if said != str(episode.message_count):
        faults.append(f'holds {episode.message_count} messages, its metadata say {said!r}')
    if backwards:
        faults.append(f'{backwards} messages come after later ones of their topic')
    if not stamps:
        faults.append(f'has no message on {STATES}')
    if metadata.get('recovered') == 'true':
        notes.append(f'was recovered: {metadata.get("damage", "")}')
    if metadata.get('reason') == 'void':
        notes.append(f'void, enters no data set: {metadata.get("void", "")}')
    if lost:
        notes.append(f'{lost} messages were dropped while it was recorded')
    steps = metadata.get('steps', '')
    if steps.isdigit() and int(steps) > len(rewarded):
        notes.append(f'only {len(rewarded)} states are rewarded, its metadata say {steps} steps')
    try:
        notes += _gaps(sorted(set(stamps)), episode.period_ns)
        cameras = json.loads(metadata.get('stalled_cameras', '[]'))
        notes += [f'camera {name} stalled' for name in cameras]
        notes += json.loads(metadata.get('faults', '[]'))
    except ContractError as error:
        faults.append(str(error))
    except ValueError:
        faults.append('its metadata are not the JSON that they should be')
    return tuple(faults), tuple(notes)


def _annotation(data: bytes, at_s: float) -> str:
    try:
        return f'at {at_s:.1f} s: {read_text(data)}'
    except SpecError as error:
        return f'at {at_s:.1f} s: {error}'


def _gaps(stamps: list[int], period: int) -> list[str]:
    """Return a line if states are farther apart than one and a half periods."""
    longest = max((after - before for before, after in zip(stamps, stamps[1:])), default=0)
    gaps = sum(after - before > 1.5 * period for before, after in zip(stamps, stamps[1:]))
    return [f'{gaps} gaps between states, the longest of {longest / 1e6:.0f} ms'] \
        if gaps else []


def _compared(findings: list[Finding], expected: Contract | None) -> list[Finding]:
    """Mark the files whose contract is not the expected one."""
    known: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.episode is not None and not finding.faults:
            known.setdefault(finding.episode.contract_json, []).append(finding)
    if expected is None and known:
        expected = Contract.from_json(max(known, key=lambda text: len(known[text])))
        others = 'the other files'
    else:
        others = 'what is asked for'
    if expected is None:
        return findings
    foreign: dict[Path, str] = {}
    for text, group in known.items():
        contract = Contract.from_json(text)
        if contract.fingerprint() != expected.fingerprint():
            lines = expected.explain(contract, others, 'this one')
            foreign |= {finding.path: 'foreign contract (robot '
                        f'{contract.robot}, task {contract.task}): '
                        + '; '.join(line.strip() for line in lines[:4]) for finding in group}
    return [Finding(finding.path, (foreign[finding.path],), finding.notes, finding.episode)
            if finding.path in foreign else finding for finding in findings]
