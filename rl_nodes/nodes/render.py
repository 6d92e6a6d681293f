# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Recorded episodes to a moving picture, by the simulator's camera; no running graph is needed."""

from collections.abc import Iterator
from pathlib import Path

from geometry_msgs.msg import PoseStamped
import numpy as np
from PIL import Image, ImageDraw
from rclpy.serialization import deserialize_message
from rl_nodes.backends import BACKENDS, installed_backends, make_robot
from rl_nodes.core.errors import RecordingError
from rl_nodes.core.goals import GoalBook
from rl_nodes.core.timing import NS
from rl_nodes.core.types import EpisodeId, Outcome, RobotState, Start
from rl_nodes.data.reader import Episode, read_episode
from rl_nodes.nodes import conversions
from rl_nodes.nodes.state_topics import StateReader
from rl_nodes.tasks import load_task
from sensor_msgs.msg import JointState

WIDTH, HEIGHT = 400, 300
FRAMES_PER_S = 12.5
INK, PAPER = (20, 22, 26), (255, 255, 255)


def render_episodes(paths: list[Path], output: Path) -> Path:
    """
    Draw recorded episodes, one after the other, as an animated GIF.

    :param paths: episodes as the recorder writes them, all of one robot and task.
    :param output: the file to write, ending in ``.gif``.
    :raises RecordingError: not a readable episode, or nothing in it to draw.
    """
    frames = [frame for path in paths for frame in _frames(path)]
    if not frames:
        raise RecordingError(f'{paths[0]}: no joint states to draw')
    output.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.fromarray(frame).quantize(96) for frame in frames]
    pictures[0].save(output, save_all=True, append_images=pictures[1:],
                     duration=round(1000 / FRAMES_PER_S), loop=0)
    return output


def _frames(path: Path) -> Iterator[np.ndarray]:
    """Yield one episode's pictures, the last one for longer."""
    episode = read_episode(path)
    contract = episode.contract
    task = load_task(contract.robot, contract.task)
    task.contract.require(contract, 'the present configuration', f'episode {path.name}')
    states, goals, outcomes = _decode(episode, StateReader(task), task.goal_frame)
    robot = make_robot((installed_backends() or BACKENDS)[0], task.robot, task.objects)
    try:
        shown_ns = None
        for state in states:
            last = state is states[-1]
            if shown_ns is not None and not last \
                    and state.stamp_ns - shown_ns < NS / FRAMES_PER_S - task.period_ns / 2:
                continue
            shown_ns = state.stamp_ns
            goal = goals.of(state)
            robot.reset(Start(state.position, np.zeros(3) if goal is None else goal.position,
                              state.base, state.objects))
            picture = _label(robot.render(WIDTH, HEIGHT), state, outcomes.get(state.stamp_ns))
            for _ in range(round(FRAMES_PER_S / 2) if last else 1):
                yield picture
    finally:
        robot.close()


def _decode(episode: Episode, reader: StateReader, goal_frame: str
            ) -> tuple[list[RobotState], GoalBook, dict[int, Outcome]]:
    states, goals, outcomes = {}, GoalBook(), {}
    for message in episode.messages((*reader.topics, 'goal', 'reward')):
        if message.topic in reader.topics:
            state = reader.read(message.topic, deserialize_message(
                message.data, reader.topics[message.topic]))
            if state is not None:
                states[state.stamp_ns] = state
        elif message.topic == 'goal':
            goals.add(conversions.msg_to_goal(deserialize_message(message.data, PoseStamped),
                                              goal_frame))
        else:
            stamp, _, outcome = conversions.msg_to_outcome(
                deserialize_message(message.data, JointState))
            outcomes[stamp] = outcome
    return [states[stamp] for stamp in sorted(states)], goals, outcomes


def _label(picture: np.ndarray, state: RobotState, outcome: Outcome | None) -> np.ndarray:
    """Write episode, time and distance below the picture."""
    episode = EpisodeId.parse(state.episode)
    text = f'episode {episode.number}   {(state.stamp_ns - episode.start_ns) / NS:4.2f} s'
    if outcome is not None and 'distance' in outcome.terms and state.stamp_ns > episode.start_ns:
        text += f'   {outcome.terms["distance"] * 100:4.1f} cm to the goal'
    canvas = Image.new('RGB', (WIDTH, HEIGHT + 22), PAPER)
    canvas.paste(Image.fromarray(picture), (0, 0))
    ImageDraw.Draw(canvas).text((8, HEIGHT + 5), text, fill=INK)
    return np.asarray(canvas)
