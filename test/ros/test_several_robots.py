# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Several robots in one graph: one policy server and one trainer serve them, each its own way."""

import json
import os
from pathlib import Path
import signal

from diagnostic_msgs.msg import DiagnosticArray
from harness import graph, make_bundle, observer, source_of, until_moving
import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from rl_nodes.data.reader import read_episode
from rl_nodes.nodes import qos
from rl_nodes.nodes.conversions import msg_to_state
from rl_nodes.tasks import load_task
from sensor_msgs.msg import JointState
from test_training_graph import settings, train  # noqa: F401 - a fixture

ROBOTS = ('robot_1', 'robot_2')


def policy(folder: Path) -> Path:
    return make_bundle(load_task('arm', 'reach').contract).save(folder / 'policy.onnx')


def states(run: Path, namespace: str = '') -> np.ndarray:
    """Return the joint positions of the first recorded episode, shape (T, J), by stamp."""
    first = sorted((run / 'episodes' / namespace).glob('*.mcap'))[0]
    names = load_task('arm', 'reach').robot.joint_names
    episode = read_episode(first)
    seen = {}  # the first one is published again until everybody is there
    for message in episode.messages(['joint_states']):
        state = msg_to_state(deserialize_message(message.data, JointState), names)
        seen[state.stamp_ns] = state.position
    return np.array(list(seen.values()))


def test_each_robot_does_what_it_would_do_alone(tmp_path: Path) -> None:
    """In lockstep the first one repeats a graph of its own bit by bit; the second has its seed."""
    path = policy(tmp_path)
    for name, robots, episodes in (('one', 1, 2), ('two', 2, 6)):
        with graph('deploy', f'policy:={path}', f'run_dir:={tmp_path / name}', f'robots:={robots}',
                   'stepping:=lockstep', f'episodes:={episodes}', 'topics:=all') as run:
            assert run.wait(90) == 0, run.output
    alone, first, second = (states(tmp_path / 'one'), states(tmp_path / 'two', 'robot_1'),
                            states(tmp_path / 'two', 'robot_2'))
    np.testing.assert_array_equal(alone, first)
    assert (alone != second).any()
    report = json.loads((tmp_path / 'two' / 'report.json').read_text())
    assert {row['robot'] for row in report['per_episode']} == set(ROBOTS)
    assert report['episodes'] == 6
    for name in ROBOTS:  # all topics are those of the robot itself
        newest = read_episode(sorted((tmp_path / 'two' / 'episodes' / name).glob('*.mcap'))[-1])
        assert 'robot/status' in newest.topics
        assert not [topic for topic in newest.topics if topic.strip('/').startswith(ROBOTS)]


@pytest.mark.slow
@pytest.mark.parametrize('path', ['cpp', 'python'])
def test_a_frozen_robot_delays_no_other(path: str, tmp_path: Path) -> None:
    with observer() as seen, graph(
            'deploy', f'policy:={policy(tmp_path)}', f'run_dir:={tmp_path / "run"}', 'robots:=2',
            'episodes:=0', f'control_path:={path}') as run:
        for namespace in ROBOTS:
            seen.listen(DiagnosticArray, f'{namespace}/safety/state', qos.LATCHED)
            seen.listen(JointState, f'{namespace}/joint_command', qos.SENSOR)
        for namespace in ROBOTS:
            until_moving(seen, namespace)
        frozen = run.nodes()['robot_2/robot_bridge']
        os.kill(frozen, signal.SIGSTOP)
        try:
            seen.until(lambda: seen.values('robot_2/safety/state').get('mode') == 'STOPPED',
                       'a stop of the frozen robot')
            count = len(seen.heard['robot_1/joint_command'])
            seen.until(lambda: len(seen.heard['robot_1/joint_command']) > count + 50, 'commands')
            times = [at for at, _ in seen.heard['robot_1/joint_command'][-50:]]
            assert source_of(seen.last('robot_1/joint_command')) != 'monitor'
            assert np.median(np.diff(times)) < 0.04
        finally:
            os.kill(frozen, signal.SIGCONT)


@pytest.mark.slow
def test_one_trainer_learns_from_all(settings: Path, tmp_path: Path) -> None:  # noqa: F811
    run_dir = tmp_path / 'run'
    with graph(*train(settings, run_dir, 'time_budget_s:=12', 'target_success:=1.0',
                      'robots:=2')) as run:
        assert run.wait(120) == 0, run.output
    rows = [json.loads(line) for line in (run_dir / 'metrics.jsonl').read_text().splitlines()]
    last = [row for row in rows if row['kind'] == 'train'][-1]
    kept = {name: sorted((run_dir / 'episodes' / name).glob('*.mcap')) for name in ROBOTS}
    assert all(kept.values()), 'both robots recorded'
    assert abs(last['episodes'] * 100 - last['step']) <= 300, 'each episode counts once'
    assert last['length'] == 100.0
    assert 'Traceback' not in run.output
