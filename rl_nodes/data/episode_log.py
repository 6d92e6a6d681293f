# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Which serialized message belongs in which episode's file, in whatever order they arrive.

A state names its episode; everything else is placed by its stamp. An episode's file stays open
for a few states after the next one has begun, because its last reward may come after that.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
import logging
from pathlib import Path
import threading
from typing import Literal

from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.origin import is_engaged
from rl_nodes.core.timing import NS
from rl_nodes.core.types import EpisodeId, Outcome
from rl_nodes.data.episode_file import EpisodeEnd, EpisodeStart
from rl_nodes.data.mcap_format import MAX_MESSAGE_BYTES
from rl_nodes.data.schemas import message_schema
from rl_nodes.data.writer import EpisodeWriter

_LOG = logging.getLogger(__name__)

LINGER_STATES = 3   # default of ``linger``
WAITING = 64        # messages kept whose state has not come yet
CLOSE_S = 0.5       # a file that is being completed when it is to be discarded is waited for
SET_BACK_NS = NS    # stamps that go back by more than they can overtake each other
LATCHED = 100       # most messages of a latched topic that each file begins with

Keep = Literal['all', 'demonstrated', 'successes']
Mark = Literal['save', 'discard', 'success', 'failure']


@dataclass
class Score:
    """
    What an episode has earned so far, and how it ended.

    :param start_ns: its start; the reward that its first state gets belongs to no step [ns].
    :param discount: per step, of the discounted return.
    """

    start_ns: int
    discount: float
    reason: str = 'reset'
    success: bool = False
    steps: int = 0
    total: float = 0.0
    discounted: float = 0.0

    def add(self, stamp_ns: int, outcome: Outcome) -> None:
        """Count the outcome of the step that led to a state; nothing counts after the end."""
        if self.reason != 'reset':
            return
        if stamp_ns > self.start_ns:
            self.total += outcome.total
            self.discounted += outcome.total * self.discount ** self.steps
            self.steps += 1
        self.success = outcome.success
        if outcome.terminated or outcome.truncated:
            self.reason = 'terminated' if outcome.terminated else 'truncated'


@dataclass
class _Recording:
    """One episode: its writer, None where it is not recorded, and what its end will say."""

    id: EpisodeId
    writer: EpisodeWriter | None
    score: Score
    policies: dict[str, None] = field(default_factory=dict)
    stalled_cameras: dict[str, None] = field(default_factory=dict)
    faults: dict[str, None] = field(default_factory=dict)
    sources: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    mark: str = ''                  # save or discard, as a person asked
    judged: bool | None = None      # success, as a person said

    @property
    def demonstrated(self) -> bool:
        return any(map(is_engaged, self.sources))


class EpisodeLog:
    """
    Records episodes, one file each.

    Topics beside those that make transitions may come and go, and their messages are added, by
    one other thread.

    :param directory: where the files go.
    :param contract: of the robot and task.
    :param topics: type name by topic, as in ``{'joint_states': 'sensor_msgs/msg/JointState'}``.
    :param qos: the profiles offered on topics, as rosbag2 writes them, by topic.
    :param every: record every n-th episode; 0 records none.
    :param seed: of the run, for the files' provenance.
    :param notes: whatever else belongs to every episode.
    :param discount: of the discounted return in the metadata.
    :param clock: system time [ns] for the files' log times.
    :param linger: states of the next episode after which the last one's file is completed.
    :param keep: all episodes; those in which somebody demonstrated; or of these the successful
        ones, and those that a person wants to be saved.
    :param most: episodes that are kept; 0 for all.
    :ivar files: that are complete.
    :ivar kept: episodes, whose files may still be being completed.
    :ivar discarded: episodes in which somebody demonstrated and that were not kept.
    :ivar newest: the outcome of the newest episode that was kept or discarded, in words.
    """

    def __init__(self, directory: Path, contract: Contract, topics: Mapping[str, str], *,
                 every: int, seed: int, notes: Mapping[str, str], discount: float,
                 clock: Callable[[], int], linger: int = LINGER_STATES, keep: Keep = 'all',
                 most: int = 0, qos: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._contract = contract
        self._topics = {topic: (name, (qos or {}).get(topic, ''))
                        for topic, name in topics.items()}
        self._latched: dict[str, deque[bytes]] = {}
        self._lock = threading.Lock()  # of which topics there are and which file is open
        self._every = every
        self._seed = seed
        self._notes = notes
        self._discount = discount
        self._clock = clock
        self._linger = linger
        self._keep, self._most = keep, most
        self._done: _Recording | None = None  # the newest that was kept
        self.kept, self.discarded, self.newest = 0, 0, ''
        self._current: _Recording | None = None
        self._last: _Recording | None = None
        self._states = 0
        self._begun: deque[str] = deque(maxlen=WAITING)
        self._newest_ns = -1
        self._variations: dict[str, Mapping[str, float]] = {}
        self._waiting: list[tuple[str, int, bytes]] = []
        self._void: dict[str, str] = {}  # why, by episode id
        self._closing: list[_Recording] = []
        self.files, self.dropped, self.misplaced = 0, 0, 0
        self.error = ''

    def add_state(self, topic: str, stamp_ns: int, episode: str, data: bytes) -> bool:
        """
        Add a serialized state, which opens a file if its episode is new.

        :return: whether the clock was set back; the episode that saw it is void.
        """
        back_ns = 0
        if self._current is None or str(self._current.id) != episode:
            begun = EpisodeId.parse(episode)
            if self._current is not None and begun.start_ns < self._current.id.start_ns:
                if episode in self._begun or begun.number <= self._current.id.number:
                    self._place(topic, stamp_ns, data)
                    return False
                back_ns = self._current.id.start_ns - begun.start_ns
                self._set_back(back_ns)
                for recording in filter(None, (self._last, self._current)):
                    self._complete(recording)
                self._current = self._last = None
            self._begin(begun)
        elif self._newest_ns - stamp_ns > SET_BACK_NS:
            back_ns = self._newest_ns - stamp_ns
            self._set_back(back_ns)
        self._states += 1
        self._newest_ns = max(self._newest_ns, stamp_ns)
        self._place(topic, stamp_ns, data)
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self.add(*message)
        if self._last is not None and self._states > self._linger:
            self._complete(self._last)
            self._last = None
        return back_ns > 0

    def add(self, topic: str, stamp_ns: int, data: bytes) -> None:
        """Add a serialized message that belongs to the state with its stamp."""
        if stamp_ns > self._newest_ns:
            self._waiting.append((topic, stamp_ns, data))
            if len(self._waiting) > WAITING:
                self._waiting.pop(0)
                self.misplaced += 1
        else:
            self._place(topic, stamp_ns, data)

    def add_now(self, topic: str, data: bytes, sent_ns: int | None = None) -> str:
        """
        Add a message that belongs to no state, as a safety state; it goes where we are.

        :param sent_ns: when it was sent [ns]; None for now.
        :return: the episode that has it; empty where none is recorded.
        """
        with self._lock:
            if topic in self._latched:
                self._latched[topic].append(data)
            if self._current is None or self._current.writer is None:
                return ''
            self._write(self._current, topic, data, sent_ns)
            return str(self._current.id)

    def add_topic(self, topic: str, type_name: str, qos: str, latched: int) -> None:
        """
        Announce a further topic, for :meth:`add_now`.

        :param qos: the profiles offered, as rosbag2 writes them.
        :param latched: how many of its newest messages hold until others come, also in episodes
            to begin: one for each publisher that latches.
        :raises RecordingError: the type is not installed, or the topic had another one before.
        """
        message_schema(type_name)
        with self._lock:
            known = self._topics.get(topic, (type_name, qos))[0]
            if known != type_name:
                raise RecordingError(f'{topic} is recorded as {known}, not {type_name}')
            self._topics[topic] = type_name, qos
            for recording in (self._current, self._last):
                if recording is not None and recording.writer is not None:
                    recording.writer.add_channel(topic, type_name, qos)
            kept = self._latched.get(topic, ())
            if latched:
                self._latched[topic] = deque(kept, maxlen=min(LATCHED, max(latched, len(kept))))

    def qos(self, topic: str) -> str:
        """Return the profiles offered on a topic, as rosbag2 writes them."""
        return self._topics[topic][1]

    def end_topic(self, topic: str) -> None:
        """Let go of a topic of :meth:`add_topic`; nothing more of it will come."""
        with self._lock:
            self._latched.pop(topic, None)

    def note_reward(self, episode: str, stamp_ns: int, outcome: Outcome) -> None:
        """Take note of what an episode earned and how it ended."""
        for recording in (self._current, self._last):
            if recording is not None and str(recording.id) == episode:
                recording.score.add(stamp_ns, outcome)

    def note_policy(self, stamp_ns: int, source: str) -> None:
        """Take note of who commanded."""
        recording = self._at(stamp_ns)
        if recording is not None:
            recording.policies[source] = None

    def note_executed(self, stamp_ns: int, source: str) -> None:
        """Take note of whose command the robot got."""
        recording = self._at(stamp_ns)
        if recording is not None:
            recording.sources[source] += 1

    def note_decision(self, stamp_ns: int, name: str) -> None:
        """Take note of what the safety monitor did about a command or the lack of one."""
        recording = self._at(stamp_ns)
        if recording is not None:
            recording.decisions[name] += 1

    def mark(self, what: Mark) -> tuple[bool, str]:
        """
        Take note of what a person says of the newest demonstration.

        That is the present episode if somebody has demonstrated in it already, else the one before
        it, which can still be discarded, whether its file is complete or not.

        :return: whether that can be done, and what is done.
        """
        current, last = self._current, self._last
        found = next((recording for recording in (current, last) if recording is not None
                      and recording.writer is not None and recording.demonstrated), None)
        if found is None:
            return self._withdraw() if what == 'discard' else (
                False, 'nothing has been demonstrated in this episode yet')
        if what in ('save', 'discard'):
            found.mark = what
        else:
            found.judged = what == 'success'
        return True, f'episode {found.id.number}: {what}'

    def note_variation(self, episode: str, values: Mapping[str, float]) -> None:
        """Take note of what is different in an episode, which may not have begun yet."""
        self._variations[episode] = values
        if len(self._variations) > WAITING:
            del self._variations[next(iter(self._variations))]

    def note_void(self, episode: str, why: str) -> None:
        """Take note that an episode, present or to come, was cut by a fault."""
        self._void[episode] = why
        if len(self._void) > WAITING:
            del self._void[next(iter(self._void))]

    def note_fault(self, why: str, void: bool) -> None:
        """
        Take note of what is wrong with the present episode.

        :param void: nothing may be concluded from it, so that it enters no data set.
        """
        current = self._current
        if current is not None:
            current.faults[why] = None
            if void:
                self._void.setdefault(str(current.id), why)

    def note_stalled(self, cameras: Iterable[str]) -> None:
        """Take note of cameras whose pictures do not come at present."""
        if self._current is not None:
            self._current.stalled_cameras.update(dict.fromkeys(cameras))

    def wants(self, stamp_ns: int) -> bool:
        """Return whether a message is worth adding: its episode is recorded, or not known."""
        recording = self._at(stamp_ns)
        return (stamp_ns > self._newest_ns or recording is None
                or recording.writer is not None)

    def disk(self) -> dict[str, float]:
        """Return how the present file gets to the disk; nothing where there is no such file."""
        writer = None if self._current is None else self._current.writer
        return {} if writer is None else {
            'disk_free_mb': writer.free_bytes >> 20, 'disk_queued': writer.queued,
            'disk_slowest_ms': round(writer.slowest_s * 1e3, 1)}

    def close(self, timeout_s: float) -> None:
        """Complete every file; called once, when nothing more will come."""
        for recording in (self._last, self._current):
            if recording is not None:
                if recording is self._current and recording.score.reason == 'reset':
                    recording.score.reason = 'shutdown'
                self._complete(recording)
        self._last = self._current = None
        for recording in self._closing:
            if recording.writer is not None and not recording.writer.wait(timeout_s):
                _LOG.error('%s is not completed yet; it will be recovered at the next start',
                           recording.writer.partial)
        self._reap()

    def _set_back(self, by_ns: int) -> None:
        self._newest_ns = -1
        self.note_fault(f'the clock was set back by {by_ns / NS:.1f} s', void=True)

    def _begin(self, episode: EpisodeId) -> None:
        if self._last is not None:
            self._complete(self._last)
        with self._lock:
            self._begun.append(str(episode))
            self._last, self._states = self._current, 0
            self._current = _Recording(episode, self._open(episode),
                                       Score(episode.start_ns, self._discount))
            for topic, kept in self._latched.items():
                for data in kept:
                    self._write(self._current, topic, data)
        self._reap()

    def _open(self, episode: EpisodeId) -> EpisodeWriter | None:
        if not self._every or episode.intermission or (episode.number - 1) % self._every:
            return None
        try:
            writer = EpisodeWriter(self._directory, EpisodeStart(
                self._contract, str(episode), self._seed, notes=self._notes))
            for topic, (type_name, qos) in self._topics.items():
                writer.add_channel(topic, type_name, qos)
        except RecordingError as error:
            self._report(str(error))
            return None
        return writer

    def _at(self, stamp_ns: int) -> _Recording | None:
        if self._current is not None and stamp_ns >= self._current.id.start_ns:
            return self._current
        return self._last

    def _place(self, topic: str, stamp_ns: int, data: bytes) -> None:
        recording = self._at(stamp_ns)
        if recording is None:
            self.misplaced += 1
        else:
            self._write(recording, topic, data)

    def _write(self, recording: _Recording, topic: str, data: bytes,
               sent_ns: int | None = None) -> None:
        if recording.writer is not None:
            now_ns = self._clock()
            if not recording.writer.write(topic, data, now_ns, sent_ns or now_ns):
                self._note_dropped(recording, topic, len(data))

    def _note_dropped(self, recording: _Recording, topic: str, size: int) -> None:
        why = (f'{topic}: a message of {size} bytes, at most {MAX_MESSAGE_BYTES} are kept'
               if size > MAX_MESSAGE_BYTES else f'{topic}: messages dropped, the disk fails or is '
               'too slow')
        if why not in recording.faults:
            recording.faults[why] = None
            _LOG.error('episode %s: %s', recording.id, why)

    def _complete(self, recording: _Recording) -> None:
        variation = self._variations.pop(str(recording.id), {})
        if recording.writer is None:
            return
        void, score = self._void.get(str(recording.id), ''), recording.score
        judged = recording.judged
        success = (score.success if judged is None else judged) and not void
        why_not = self._why_not_kept(recording, success)
        if recording.demonstrated:
            self.newest = (f'episode {recording.id.number}: {"success" if success else "failure"}'
                           f', return {score.total:.2f}, {score.steps} steps, '
                           f'{why_not or "kept"}')
        self._closing.append(recording)
        if why_not:
            self.discarded += recording.demonstrated
            recording.writer.discard()
            return
        self.kept += 1
        self._done = recording
        recording.writer.finish(EpisodeEnd(
            'void' if void else score.reason, success,
            score.steps, score.total, score.discounted, self._discount,
            tuple(recording.policies),
            randomisation=variation,
            stalled_cameras=tuple(recording.stalled_cameras), void=void,
            faults=tuple(recording.faults), sources=recording.sources,
            decisions=recording.decisions,
            judge='reward' if judged is None else 'operator'))

    def _why_not_kept(self, recording: _Recording, success: bool) -> str:
        if recording.mark == 'discard':
            return 'discarded'
        if self._most and self.kept >= self._most:
            return 'one more than wanted'
        if self._keep == 'all' or recording.mark == 'save':
            return ''
        if not recording.demonstrated:
            return 'nothing demonstrated'
        return '' if success or self._keep == 'demonstrated' else 'not kept'

    def _withdraw(self) -> tuple[bool, str]:
        """Remove the file of the newest episode that was kept."""
        done = self._done
        writer = None if done is None else done.writer
        if done is None or writer is None or not writer.wait(CLOSE_S) or writer.path is None:
            return False, 'there is no demonstration to discard'
        self._reap()
        try:
            writer.path.unlink()
        except OSError as error:
            return False, f'{writer.path} cannot be removed: {error}'
        self._done = None
        self.files, self.kept, self.discarded = self.files - 1, self.kept - 1, self.discarded + 1
        self.newest = f'episode {done.id.number}: discarded'
        return True, self.newest

    def _reap(self) -> None:
        """Look at which writers are done, and with what."""
        for recording in list(self._closing):
            writer = recording.writer
            if writer is not None and writer.closed:
                self._closing.remove(recording)
                self.dropped += writer.dropped
                if writer.error:
                    self._report(writer.error)
                else:
                    self.files += writer.path is not None

    def _report(self, error: str) -> None:
        if error != self.error:
            _LOG.error('%s', error)
        self.error = error
