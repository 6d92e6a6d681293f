# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a policy that is learning does to a robot, with the safety monitor and without it.

With it, all processes of ``rl_nodes launch train`` run, in lockstep, and what reached the robot is
read from the episodes, all of which are recorded. Without it no graph runs at all, so there the
same algorithm learns in one process, in the same simulation, with nothing in place of the monitor.
"""

from collections import Counter
from dataclasses import replace
import json
import os
from pathlib import Path
import tempfile
import time
from typing import NamedTuple

from actors import Actor
import msgspec
import numpy as np
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.robot import load_robot
from rl_nodes.core.types import JointCommand, RobotState
from rl_nodes.data.reader import read_episode
from rl_nodes.graph import build
from rl_nodes.nodes import conversions, joint_state
from rl_nodes.runner import node_command, node_environment, prepare
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.settings import load_settings
import violations
from violations import WANDERERS, Witness

ALGORITHMS = {'arm': 'sac', 'quadruped': 'sac_walk'}
STATES, WANTED, GIVEN = 'joint_states', 'policy/joint_command', 'joint_command'
NEVER = 1_000_000_000   # so many steps or seconds come before an evaluation
LOOK_S, SILENT_S = 1.0, 120.0


class Learned(NamedTuple):
    """
    What a run showed.

    :param commands: that reached the robot.
    :param found: violations among them by name.
    :param wanted: violations by name among what the policy asked for; None without a monitor.
    """

    commands: int
    found: Counter[str]
    wanted: Counter[str] | None = None


def watched(robot: str, steps: int) -> Learned:
    """Let a policy learn in the graph for at least so many steps, and judge the recordings."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = load_settings(ALGORITHMS[robot])
        loop = msgspec.structs.replace(settings.loop, evaluate_every_steps=NEVER,
                                       evaluate_every_s=float(NEVER))
        yaml = folder / 'learning.yaml'
        yaml.write_bytes(msgspec.yaml.encode(msgspec.structs.replace(settings, loop=loop)))
        graph = build('train', {
            'robot': robot, 'task': WANDERERS[robot], 'algorithm': str(yaml),
            'run_dir': str(folder / 'run'), 'time_budget_s': str(NEVER)})
        prepare(graph)
        environ = node_environment(os.environ, graph, False)
        actors = [Actor(spec.name, node_command(replace(spec, parameters={
            name: 1 if name == 'record_every' else value
            for name, value in spec.parameters.items()}), graph.namespace), environ, folder)
            for spec in graph.nodes]
        try:
            for actor in actors:
                actor.start()
            _wait_for(actors, folder / 'run' / 'metrics.jsonl', steps)
        finally:
            for actor in reversed(actors):
                actor.end()
        return judge(robot, folder / 'run' / 'episodes')


def unwatched(robot: str, steps: int) -> Learned:
    """Let a policy learn with nothing between it and the simulated robot."""
    violations.made.clear()
    with tempfile.TemporaryDirectory() as folder:
        train(TrainOptions(
            env=f'rl_nodes/open_{robot}-v0', env_module='violations', n_envs=1, film=False,
            algorithm=ALGORITHMS[robot], steps=steps, run_dir=folder,
            changes={'loop.evaluate_every_steps': str(NEVER),
                     'loop.evaluate_every_s': str(NEVER)}))
    return Learned(sum(env.steps for env in violations.made), sum(
        (env.witness.count() for env in violations.made), Counter()))


def _wait_for(actors: list[Actor], metrics: Path, steps: int) -> None:
    """Return once the trainer has so many steps; TrainingError where it gets no further."""
    done, at = 0, time.monotonic()
    while done < steps:
        time.sleep(LOOK_S)
        rows = metrics.read_text(encoding='utf-8').splitlines() if metrics.is_file() else []
        newest = max((json.loads(row)['step'] for row in rows), default=0)
        if newest > done:
            done, at = newest, time.monotonic()
        dead = [actor for actor in actors if not actor.alive]
        if dead or time.monotonic() > at + SILENT_S:
            raise TrainingError(f'learning ended at step {done} of {steps}; '
                                + ' '.join(actor.said[-2000:] for actor in dead))


def judge(robot: str, episodes: Path) -> Learned:
    """Judge every command in recorded episodes by the state that it belongs to."""
    model = load_robot(robot)
    given, asked, count = Witness(model), Witness(model), 0
    for path in sorted(episodes.glob('*.mcap')):
        states: dict[int, RobotState] = {}
        wanted: dict[int, np.ndarray] = {}
        executed: list[JointCommand] = []
        for message in read_episode(path).messages((STATES, WANTED, GIVEN)):
            msg = joint_state.decode(message.data)
            if message.topic == STATES:
                state = conversions.msg_to_state(msg, model.joint_names)
                states[state.stamp_ns] = state
                continue
            command = conversions.msg_to_command(msg, model.config.control_mode)[1]
            if message.topic == WANTED:
                wanted[command.stamp_ns] = command.value
            else:
                executed.append(command)
        for command in executed:
            if command.stamp_ns in states:
                state, value = states[command.stamp_ns], command.value
                wish = wanted.get(command.stamp_ns, value)
                given.see(state, wish, value)
                asked.see(state, wish, wish)
                count += 1
    return Learned(count, given.count(), asked.count())
