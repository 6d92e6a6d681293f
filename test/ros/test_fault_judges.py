# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What judges a robot in ``test/faults`` notices what it is there for."""

from pathlib import Path
import sys

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / 'faults'))

from clearances import Clearances
import learning
from rl_nodes.core.robot import load_robot
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.data.episode_file import EpisodeEnd, EpisodeStart
from rl_nodes.data.writer import EpisodeWriter
from rl_nodes.nodes import conversions
from rl_nodes.tasks import load_task

ARM = load_robot('arm')
STEP = ARM.limits('velocity') / ARM.config.rate_hz
TOP = ARM.limits('upper') - ARM.config.safety.position_margin
LOW = np.array([0.0, 1.71, 0.37, 0.0, 0.0, 0.0])  # the hand nearly on the table
DOWN = np.array([0.0, 0.03, 0.0, 0.0, 0.0, 0.0])
NAN = np.array([np.nan, *ARM.home[1:]])
Row = tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]  # state, wanted, executed


def record(folder: Path, rows: list[Row]) -> None:
    """Write an episode; a state follows its commands, as messages of two topics may."""
    writer = EpisodeWriter(folder, EpisodeStart(load_task('arm', 'reach').contract, '1@0'))
    for topic in (learning.STATES, learning.WANTED, learning.GIVEN):
        writer.add_channel(topic, 'sensor_msgs/msg/JointState')
    names, zeros = ARM.joint_names, np.zeros(6)
    for stamp, (position, wanted, given) in enumerate(rows):
        said = [(learning.WANTED, conversions.command_to_msg(
                    JointCommand(stamp, 'p@1', wanted), names, 'position')),
                *((learning.GIVEN, conversions.command_to_msg(
                    JointCommand(stamp, 'p@1', value), names, 'position')) for value in given),
                (learning.STATES, conversions.state_to_msg(
                    RobotState(stamp, '1@0', position, zeros, zeros), names))]
        for topic, data in said:
            writer.write(topic, data, stamp, stamp)
    writer.finish(EpisodeEnd('truncated', False, len(rows), 0.0, 0.0, 1.0, ('p@1',), {}, {}))
    assert writer.wait(10)
    assert not writer.error


HOME = ARM.home
FAST, SLOW = HOME + 2 * STEP * np.eye(6)[3], HOME + STEP * np.eye(6)[3]


@pytest.mark.parametrize(('row', 'found', 'wanted'), [
    ((HOME, SLOW, (SLOW,)), {}, {}),
    ((HOME, FAST, (FAST,)), {'speed': 1}, {'speed': 1}),
    ((HOME, FAST, (SLOW,)), {}, {'speed': 1}),
    ((HOME, SLOW, (FAST,)), {'speed': 1, 'more than asked for': 1}, {}),
    ((HOME, HOME, (FAST, HOME)), {'speed': 1, 'more than asked for': 1}, {}),
    ((HOME, FAST, (HOME, SLOW)), {}, {'speed': 2}),
    ((HOME, FAST, ()), {}, {}),
    ((TOP, TOP + STEP, (TOP + STEP,)), {'position': 6}, {'position': 6}),
    ((LOW, LOW + DOWN, (LOW + DOWN,)), {'into the table': 1}, {'into the table': 1}),
    ((LOW, LOW + DOWN, (LOW,)), {}, {'into the table': 1}),
    ((HOME, NAN, (NAN,)), {'not finite': 1, 'not finite, not refused': 1},
     {'not finite': 1, 'not finite, not refused': 1})])
def test_one_violation_in_a_recording_is_counted_once(tmp_path: Path, row: Row,
                                                      found: dict[str, int],
                                                      wanted: dict[str, int]) -> None:
    """Among commands that are right only with the state of their own stamp."""
    others = [(HOME + k * STEP, HOME + (k + 1) * STEP, (HOME + (k + 1) * STEP,))
              for k in range(5)]
    for number in range(2):
        record(tmp_path / str(number), [*others, row, *others] if number else others)
        (tmp_path / str(number) / 'episode_000000.mcap').rename(tmp_path / f'{number}.mcap')
    learned = learning.judge('arm', tmp_path)
    assert learned.commands == 15 + len(row[2])
    assert (learned.found, learned.wanted) == (found, wanted)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_policy_that_learns_breaks_no_limit_under_the_monitor() -> None:
    """R20: and breaks many without it."""
    watched, free = learning.watched('arm', 300), learning.unwatched('quadruped', 300)
    assert watched.commands >= 300
    assert not watched.found
    assert free.commands >= 300
    assert free.found['speed'] > 300


# What is sent and read: a stop (when sent), a request (when sent), its answer (success, when
# read), a command (when sent, whether it may move).
@pytest.mark.parametrize('story', [
    [('command', 5, False)],
    [('asked', 1), ('command', 2, True), ('answered', True, 4), ('command', 5, True)],
    [('asked', 1), ('answered', True, 4), ('stopped', 6), ('command', 5, False),
     ('command', 7, False)],
    [('asked', 1), ('answered', True, 4), ('stopped', 6), ('asked', 8), ('command', 7, False),
     ('answered', False, 9), ('command', 10, False)],
    # read late: a stop from before the answer, a command from before the next stop
    [('asked', 1), ('answered', True, 4), ('stopped', 0), ('command', 5, True)],
    [('asked', 1), ('answered', True, 4), ('stopped', 6), ('asked', 8), ('answered', True, 9),
     ('stopped', 5), ('command', 10, True), ('command', 7, False)],
    # the first request had its way though its answer came too late for whoever asked
    [('asked', 1), ('asked', 3), ('answered', False, 5), ('command', 4, True)],
    [('asked', 1), ('asked', 3), ('answered', False, 5), ('stopped', 6), ('command', 7, False)]])
def test_only_who_was_cleared_after_a_stop_may_move(story: list[tuple]) -> None:
    clearances = Clearances()
    for what, *values in story:
        if what == 'command':
            assert clearances.allow(values[0]) == values[1], values
        else:
            getattr(clearances, what)(*values)
