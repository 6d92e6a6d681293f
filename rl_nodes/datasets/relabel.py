# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
New episodes of recorded ones: rewarded anew, or cut shorter. The originals stay untouched.

Both leave every message that is kept as it was recorded, bit by bit, and compute anew what the
metadata say of the result.
"""

from collections.abc import Iterator
from dataclasses import dataclass
import json
from pathlib import Path

from rl_nodes.core.errors import RecordingError, SpecError
from rl_nodes.core.timing import NS
from rl_nodes.core.types import EpisodeId, Outcome, RobotState
from rl_nodes.data.cdr import header_stamp_ns
from rl_nodes.data.episode_log import Score
from rl_nodes.data.reader import Episode, RecordedMessage
from rl_nodes.data.rewriting import rewrite
from rl_nodes.nodes import conversions
from rl_nodes.nodes.joint_state import decode
from rl_nodes.nodes.recorded_states import read_states
from rl_nodes.nodes.state_topics import JOINTS
from rl_nodes.nodes.transition_feed import REWARD
from rl_nodes.tasks.base import Judge, Task
from rl_nodes.tasks.success import SuccessJudge

LATCHED = ('goal', 'randomisation', 'safety/state')  # hold from before an episode's first state


@dataclass(frozen=True)
class Relabelled:
    """
    What rewarding an episode anew has changed.

    :param path: the new file.
    :param changed: number of rewards whose bytes differ.
    :param before: return, success and reason of the end as they were recorded.
    :param after: the same, as they are now.
    """

    path: Path
    changed: int
    before: tuple[float, bool, str]
    after: tuple[float, bool, str]


def relabel(episode: Episode, task: Task, final: Path) -> Relabelled:
    """
    Write an episode with the rewards and ends that a task says today.

    Where the task names a success classifier, it is asked. A state without a command counts as
    holding still, as for the reward computer in real time.

    :param task: of the same robot; its contract becomes that of the new file.
    :param final: the new file.
    :raises RecordingError: no state in it, or the file cannot be written.
    """
    judge = task.judge()
    outcomes, first = _outcomes(episode, task, judge)
    score = Score(first.start_ns, float(episode.metadata.get('discount', '1')))
    for stamp, (_, outcome) in outcomes.items():
        score.add(stamp, outcome)
    rewards = {stamp: conversions.outcome_to_msg(stamp, name, outcome)
               for stamp, (name, outcome) in outcomes.items()}
    counts = {'changed': 0}
    path = rewrite(episode, final, _rewarded(episode, rewards, counts), {
        **_result(episode, score, task.contract.task),
        'relabelled_from': episode.path.name, **_classifier(episode, judge)}, task.contract)
    return Relabelled(path, counts['changed'], _said(episode.metadata),
                      (score.total, score.success, score.reason))


def trim(episode: Episode, final: Path, start_ns: int, end_ns: int) -> Path:
    """
    Write the part of an episode whose states lie in an interval, both ends included.

    Steps keep their numbers; the last one counts as cut unless the task ended there.

    :param final: the new file.
    :param start_ns: since the start of the episode [ns].
    :param end_ns: the same.
    :raises RecordingError: no two states in the interval, or the file cannot be written.
    """
    begun = _id(episode).start_ns
    low, high = begun + start_ns, begun + end_ns

    latched = {*LATCHED, *(topic for topic in episode.unstamped
                           if 'transient_local' in episode.definitions[topic][1])}

    def inside() -> Iterator[RecordedMessage]:
        here = begun
        for message in episode.messages():
            stamp = here if message.topic in episode.unstamped else header_stamp_ns(message.data)
            if message.topic == JOINTS:
                here = stamp
            if stamp <= high and (stamp >= low or message.topic in latched):
                yield message

    states, outcomes = set(), dict[int, Outcome]()
    for message in inside():
        if message.topic == JOINTS:
            states.add(header_stamp_ns(message.data))
        elif message.topic == REWARD:
            outcomes.setdefault(header_stamp_ns(message.data), _outcome_of(episode, message))
    if len(states) < 2:
        raise RecordingError(f'{episode.path}: {len(states)} states from {start_ns / NS:g} s to '
                             f'{end_ns / NS:g} s after its start; expected at least 2')
    score = Score(min(states), float(episode.metadata.get('discount', '1')))
    for stamp in sorted(outcomes):
        score.add(stamp, outcomes[stamp])
    return rewrite(episode, final, inside(), {
        **_result(episode, score, episode.contract.task), 'trimmed_from': json.dumps(
            {'file': episode.path.name, 'start_s': start_ns / NS, 'end_s': end_ns / NS})})


def _outcomes(episode: Episode, task: Task, judge: Judge
              ) -> tuple[dict[int, tuple[str, Outcome]], EpisodeId]:
    """Return (episode id, outcome) by stamp of every state, in order."""
    recorded = read_states(episode, task)
    found: dict[int, tuple[str, Outcome]] = {}
    before: RobotState | None = None
    for stamp, (after, goal) in recorded.states.items():
        if before is None or before.episode != after.episode:
            outcome = task.first_outcome()
        else:
            command = recorded.commands.get(before.stamp_ns)
            outcome = judge(
                before, task.hold_command(before) if command is None else command, after, goal)
        found[stamp], before = (after.episode, outcome), after
    return found, _id(episode)


def _rewarded(episode: Episode, rewards: dict[int, bytes],
              counts: dict[str, int]) -> Iterator[RecordedMessage]:
    """Yield all messages, each reward by the new one of its stamp; count those that differ."""
    missing = set(rewards) - {
        header_stamp_ns(message.data) for message in episode.messages((REWARD,))}
    sequence = 0
    for message in episode.messages():
        new = None
        if message.topic == REWARD:
            # That of no state is dropped.
            new = rewards.get(header_stamp_ns(message.data))
            counts['changed'] += new != message.data
        else:
            yield message
            if message.topic == JOINTS and (stamp := header_stamp_ns(message.data)) in missing:
                missing.remove(stamp)  # nobody rewarded it
                new = rewards[stamp]
                counts['changed'] += 1
        if new is not None:
            yield RecordedMessage(REWARD, 'sensor_msgs/msg/JointState', message.log_time_ns,
                                  message.publish_time_ns, new, sequence)
            sequence += 1


def _outcome_of(episode: Episode, message: RecordedMessage) -> Outcome:
    try:
        return conversions.msg_to_outcome(decode(message.data))[2]
    except SpecError as error:
        raise RecordingError(f'{episode.path}: {error}') from None


def _id(episode: Episode) -> EpisodeId:
    try:
        return EpisodeId.parse(episode.metadata.get('episode', ''))
    except ValueError as error:
        raise RecordingError(f'{episode.path}: {error}') from None


def _result(episode: Episode, score: Score, task: str) -> dict[str, str]:
    """Return the metadata that tell a result; who ended it and what a person said stays known."""
    judged = episode.metadata.get('judge') == 'operator' and task == episode.contract.task
    if judged:
        score.success = episode.metadata.get('success') == 'true'
    said = episode.metadata.get('reason', 'reset')
    kept = said if said not in ('terminated', 'truncated') else 'reset'
    score.reason = kept if score.reason == 'reset' else score.reason
    return {'reason': score.reason, 'success': str(score.success).lower(),
            'judge': 'operator' if judged else 'reward',
            'steps': str(score.steps), 'return_undiscounted': repr(float(score.total)),
            'return_discounted': repr(float(score.discounted))}


def _classifier(episode: Episode, judge: Judge) -> dict[str, str]:
    """Return the metadata that tell which success classifier was asked, now or before."""
    if isinstance(judge, SuccessJudge):
        return {'success_classifier': judge.label}
    return dict.fromkeys({'success_classifier'} & set(episode.metadata), '')


def _said(metadata: dict[str, str]) -> tuple[float, bool, str]:
    return (float(metadata.get('return_undiscounted') or 'nan'),
            metadata.get('success') == 'true', metadata.get('reason', ''))
