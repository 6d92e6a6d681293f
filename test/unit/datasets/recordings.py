# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Episodes as the recorder keeps them, without a simulator: an arm that does what it is told."""

from dataclasses import replace
import itertools

import numpy as np
from rclpy.serialization import serialize_message
from rl_nodes.core.cameras import COMPRESSED, COMPRESSED_IMAGE
from rl_nodes.core.origin import PERTURBED
from rl_nodes.core.types import Goal, JointCommand, RobotState
from rl_nodes.data.compression import compress
from rl_nodes.data.episode_log import EpisodeLog
from rl_nodes.nodes import conversions
from rl_nodes.nodes.pictures import picture_to_msg
from rl_nodes.nodes.transition_feed import INTENDED, TELEOP, TransitionFeed, WANTED

START_NS = 1_700_000_000_000_000_000


def rollout(task, number=1, steps=12, seed=0, who=('reach@3',), camera=None, quality=0,
            changed=None):
    """
    Return (topic, stamp [ns], bytes) of one episode; ``who`` commands by turns.

    ``changed`` has the decision by step where the monitor changed what was wanted.
    """
    rng = np.random.default_rng(seed)
    model, period = task.robot, task.period_ns
    begun = START_NS + number * 1_000_000_000_000
    episode, mode = f'{number}@{begun}', model.config.control_mode
    names = tuple(joint.name for joint in task.contract.commanded)
    goal = Goal(begun, rng.uniform(0.2, 0.4, 3), np.array([0.0, 0.0, 0.0, 1.0]))
    position = np.array(task.start(rng).position)
    velocity, before, command = np.zeros(len(position)), None, None
    messages = [('goal', begun, serialize_message(conversions.goal_to_msg(goal, task.goal_frame)))]
    for step in range(steps + 1):
        stamp = begun + step * period
        state = RobotState(stamp, episode, position, velocity, np.empty(0))
        messages.append(('joint_states', stamp, conversions.state_to_msg(state,
                                                                         model.joint_names)))
        outcome = task.first_outcome() if before is None else task.evaluate(
            before, command, state, goal)
        messages.append(('reward', stamp, conversions.outcome_to_msg(stamp, episode, outcome)))
        if camera is not None and step % 3 == 0:
            picture = np.full((camera.height, camera.width, 3), 20 * step, np.uint8)
            topic, data = f'camera/{camera.name}/image_raw', serialize_message(
                picture_to_msg(camera, stamp, picture))
            messages.append((topic + COMPRESSED, stamp, compress(data, quality)) if quality
                            else (topic, stamp, data))
        if step == steps:
            break
        command = task.command(state, rng.uniform(-1, 1, len(names)).astype(np.float32))
        source = who[step % len(who)]
        given = conversions.command_to_msg(JointCommand(stamp, source, command), names, mode)
        wanted = TELEOP if source.startswith('teleop') else WANTED
        done = JointCommand(stamp, source, command)
        if step in (changed or {}):
            done = replace(done, value=command - 0.005, intervention=changed[step])
        messages += [(wanted, stamp, given), (
            'joint_command', stamp, conversions.command_to_msg(done, names, mode))]
        if source.endswith(PERTURBED):
            messages.append((INTENDED, stamp, conversions.command_to_msg(
                JointCommand(stamp, source.removesuffix(PERTURBED), command - 0.01), names, mode)))
        before, command = state, done.value
        velocity, position = (command - position) * 1e9 / period, command
    return messages


def note(log, topic, stamp, data, feed):
    """Hand a message to an episode log, as the recorder does."""
    heard = feed.add(topic, data) if topic in feed.kinds else None
    if topic == 'joint_states':
        log.add_state(topic, stamp, heard.frame_id, data)
        return
    log.add(topic, stamp, data)
    if topic == 'policy/joint_command':
        log.note_policy(stamp, heard.frame_id)
    elif topic == 'reward':
        log.note_reward(heard.frame_id, stamp, heard.value)


def record(folder, task, episodes=3, stepping='lockstep', factor=0.0, camera=None, **options):
    """Write episodes; return their files."""
    feed, ticks = TransitionFeed(task), itertools.count(START_NS)
    topics = feed.type_names() | (camera.topics() if camera else {})
    if camera and options.get('quality'):
        topics |= {f'camera/{camera.name}/image_raw{COMPRESSED}': COMPRESSED_IMAGE}
    log = EpisodeLog(folder, task.contract, topics, every=1, seed=7,
                     notes={'stepping': stepping, 'real_time_factor': str(factor)},
                     discount=0.99, clock=lambda: next(ticks))
    for number in range(1, episodes + 1):
        for topic, stamp, data in rollout(task, number, seed=number, camera=camera, **options):
            note(log, topic, stamp, data, feed)
    log.close(5.0)
    assert log.files == episodes, log.error
    return sorted(folder.glob('*.mcap'))
