# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""People and scripts at the robot: take-over, recording, cloning, replay, a terminal's keys."""

from collections.abc import Iterator
import json
import os
from pathlib import Path
import pty
import re
import signal
import subprocess
import sys

from diagnostic_msgs.msg import DiagnosticArray
from harness import graph, Observer, observer, source_of
import numpy as np
import pytest
from rl_nodes.core.origin import Origin
from rl_nodes.core.robot import load_robot
from rl_nodes.data.collection import summarise
from rl_nodes.data.reader import episode_files, read_episode
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.nodes import qos
from rl_nodes.nodes.recorded_transitions import read_transitions
from rl_nodes.safety.sources import FADE_S
from rl_nodes.teleop.device import Layout
from rl_nodes.teleop.keys import AXES, BUTTONS
from rl_nodes.training.cloning import clone, CloneOptions
from sensor_msgs.msg import JointState, Joy

LAYOUT = Layout()


class Gamepad:
    """A gamepad on the topic joy, as long as its observer spins."""

    def __init__(self, watch: Observer) -> None:
        self._joy = watch.node.create_publisher(Joy, 'joy', qos.SENSOR)
        self._timer = watch.node.create_timer(0.02, self._publish)
        self.axes, self.held = 0.0, False

    def _publish(self) -> None:
        axes, buttons = [0.0] * AXES, [0] * BUTTONS
        axes[LAYOUT.axes[2]] = self.axes
        buttons[LAYOUT.deadman] = int(self.held)
        self._joy.publish(Joy(axes=axes, buttons=buttons))

    def unplug(self) -> None:
        """Fall silent."""
        self._timer.cancel()


@pytest.fixture
def watch() -> Iterator[Observer]:
    with observer() as found:
        found.listen(JointState, 'joint_command', qos.EXECUTED)
        found.listen(JointState, 'joint_states', qos.STREAM)
        found.listen(DiagnosticArray, 'safety/state', qos.LATCHED)
        found.listen(DiagnosticArray, 'teleop/status', qos.LATCHED)
        yield found


def executed_by(watch: Observer) -> str:
    message = watch.last('joint_command')
    return '' if message is None else source_of(message)


def test_a_person_takes_over_from_a_policy_and_gives_back(
        tmp_path: Path, policy_path: Path, watch: Observer) -> None:
    """Without a jump, labelled in the data; a device that is lost stops the robot."""
    pad = Gamepad(watch)
    with graph('deploy', f'policy:={policy_path}', 'episodes:=0', 'teleop:=joy',
               f'run_dir:={tmp_path / "run"}') as run:
        watch.until(lambda: executed_by(watch) == 'untrained@1', 'the policy')
        for _ in range(3):
            pad.held = True
            watch.until(lambda: executed_by(watch) == 'teleop:joy', 'the person')
            watch.until(lambda: watch.values('safety/state')['acting'] == 'teleop', 'its news')
            pad.axes = 0.6
            taken = len(watch.heard['joint_command'])
            watch.until(lambda: len(watch.heard['joint_command']) > taken + 15, 'commands')
            assert {source_of(message) for _, message in
                    watch.heard['joint_command'][taken:]} == {'teleop:joy'}
            pad.axes, pad.held = 0.0, False
            watch.until(lambda: executed_by(watch) == 'untrained@1', 'the policy again')
        pad.held = True
        watch.until(lambda: executed_by(watch) == 'teleop:joy', 'the person once more')
        pad.unplug()
        watch.until(lambda: watch.values('safety/state')['mode'] == 'STOPPED', 'the stop')
        assert watch.values('safety/state')['check'] == 'command_silence'
        assert int(watch.values('safety/state')['handovers']) == 7
        run.interrupt()
        assert run.wait(15) == 0, run.output
    assert_no_jump(watch)
    batch, _ = read_transitions([tmp_path / 'run' / 'episodes'])
    assert (batch.origin == Origin.INTERVENTION).sum() > 30
    assert (batch.origin == Origin.AUTONOMOUS).any()
    assert not (batch.origin == Origin.DEMONSTRATION).any()


def assert_no_jump(watch: Observer) -> None:
    """Between two sources the speed asked for changes by no more than the limit of a change."""
    robot = load_robot('arm')
    period_s, limit = 1 / robot.config.rate_hz, robot.limits('velocity')
    positions = {(m.header.stamp.sec, m.header.stamp.nanosec): np.array(m.position)
                 for _, m in watch.heard['joint_states']}
    speeds = []
    for _, message in watch.heard['joint_command']:
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        if stamp in positions and source_of(message) != 'monitor':
            speeds.append((source_of(message), stamp,
                           (np.array(message.position) - positions[stamp]) / period_s))
    changes = [np.abs(new - old).max() for (a, s, old), (b, t, new) in zip(speeds, speeds[1:])
               if a != b and (t[0] - s[0]) + (t[1] - s[1]) / 1e9 < 2 * period_s]
    assert len(changes) >= 3
    assert max(changes) <= limit.max() / FADE_S * period_s * 1.01


def record(folder: Path, *arguments: str) -> Path:
    """Record scripted demonstrations as a user does; return the folder of episodes."""
    with graph('record', 'task:=reach', f'run_dir:={folder}', *arguments) as run:
        assert run.wait(300) == 0, run.output
        assert 'next: rl_nodes train algorithm:=bc' in run.output
    return folder / 'episodes'


def test_a_script_is_recorded_and_cloned(tmp_path: Path) -> None:
    """The quick half of the way: what is recorded is labelled, and a policy comes of it."""
    episodes = record(tmp_path / 'run', 'episodes:=3', 'operator:=anna', 'seed:=5')
    found = summarise(episodes)
    assert (found.episodes, found.successes, found.operators) == (3, 3, {'anna': 3})
    assert found.demonstrated == 1.0
    metadata = read_episode(episode_files([episodes])[0]).metadata
    assert metadata['seed'] == '5'
    assert 'teleop:anna/perturbed' in metadata['sources']
    batch, contract = read_transitions([episodes])
    assert (batch.origin == Origin.DEMONSTRATION).all()
    assert np.abs(batch.action - batch.wanted).max() > 0.05  # noise; what was intended is kept
    settings = tmp_path / 'quick.yaml'
    settings.write_text('algorithm: bc\nlearner: {hidden: [32], epochs: 3}\n')
    result = clone(CloneOptions(str(episodes), str(settings), str(tmp_path / 'bc'),
                                evaluation_episodes=0), batch, contract, episode_files([episodes]))
    manifest = PolicyBundle.load(result.policy).manifest
    assert (manifest.algorithm, len(manifest.data)) == ('bc', 3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_way_from_demonstrations_to_a_deployed_policy(tmp_path: Path) -> None:
    episodes = record(tmp_path / 'run', 'episodes:=60')
    subprocess.run([sys.executable, '-m', 'rl_nodes', 'train', 'algorithm:=bc',
                    f'dataset:={episodes}', f'run_dir:={tmp_path / "bc"}',
                    'evaluation_episodes:=0'], check=True, timeout=400)
    with graph('deploy', f'policy:={tmp_path / "bc" / "policy.onnx"}', 'episodes:=20',
               'stepping:=lockstep', f'run_dir:={tmp_path / "deploy"}') as run:
        assert run.wait(300) == 0, run.output
    report = json.loads((tmp_path / 'deploy' / 'report.json').read_text())
    assert report['episodes'] == 20
    assert report['success_rate'] >= 0.8, run.output  # the script itself succeeds always


def replay(path: Path, folder: Path, *arguments: str) -> tuple[int, str]:
    """Replay as a user does; again where a busy machine has stopped the robot for silence."""
    for attempt in range(4):
        process = subprocess.run(
            [sys.executable, '-m', 'rl_nodes', 'replay', str(path), *arguments,
             f'run_dir:={folder / str(attempt)}'],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        if 'the robot was stopped after' not in process.stdout:
            break
    return process.returncode, process.stdout


@pytest.mark.slow
def test_a_recorded_episode_is_repeated_on_the_robot(tmp_path: Path, watch: Observer) -> None:
    episodes = record(tmp_path / 'run', 'episodes:=1', 'noise:=0', 'seed:=9')
    path = episode_files([episodes])[0]
    status, output = replay(path, tmp_path / 'again')
    assert status == 0, output
    assert 'replayed 10' in output  # of about 100 commands
    furthest = float(re.search('greatest ([0-9.]+)', output)[1])
    assert furthest < 0.1, output  # rad: it starts within a step of the recording
    watch.until(lambda: any(message.header.frame_id.startswith('replay:episode_')
                            for _, message in watch.heard['joint_command']), 'the recording')
    status, output = replay(path, tmp_path / 'refused', 'ramp:=false')
    assert status == 1, output
    assert 'first command is too far' in output


def judged(folder: Path) -> list[dict[str, str]]:
    """Return the metadata of the episodes that a person judged."""
    found = [read_episode(path).metadata for path in episode_files([folder])]
    return [metadata for metadata in found if metadata['judge'] == 'operator']


def test_a_person_discards_redoes_and_marks(tmp_path: Path, watch: Observer) -> None:
    """The recorder's services, as the buttons of a device call them."""
    watch.listen(DiagnosticArray, 'recorder/status', qos.LATCHED)
    episodes = tmp_path / 'run' / 'episodes'
    with graph('record', 'task:=reach', 'episodes:=0', 'real_time_factor:=1',
               f'run_dir:={tmp_path / "run"}') as run:
        watch.until(lambda: int(watch.values('recorder/status').get('files', 0)) >= 1, 'a file')
        watch.until(lambda: executed_by(watch).startswith('teleop:'), 'a demonstration')
        assert watch.call('experience_recorder/mark_failure').success
        assert watch.call('experience_recorder/save_episode').success
        assert watch.call('robot_bridge/repeat').success
        watch.until(lambda: bool(judged(episodes)), 'the file')
        marked = judged(episodes)
        assert [(metadata['success'], metadata['reason']) for metadata in marked] == [
            ('false', 'reset')]
        discarded = int(watch.values('recorder/status')['discarded'])
        answer = watch.call('experience_recorder/discard_episode')
        assert answer.success, answer.message
        watch.call('robot_bridge/reset')
        watch.until(lambda: int(watch.values('recorder/status')['discarded']) > discarded,
                    'the discarded episode')
        run.interrupt()
        assert run.wait(15) == 0, run.output


def test_the_keys_of_a_terminal_are_a_gamepad(watch: Observer) -> None:
    watch.listen(Joy, 'joy', qos.SENSOR)
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, '-m', 'rl_nodes.nodes.keyboard', '--ros-args',
                                '-p', f'terminal:={os.ttyname(theirs)}'])
    try:
        watch.until(lambda: bool(watch.heard['joy']), 'joy')
        assert not any(watch.last('joy').axes)
        os.write(ours, b'w')
        watch.until(lambda: watch.last('joy').axes[LAYOUT.axes[0]] == 1.0, 'the key')
        assert watch.last('joy').buttons[LAYOUT.deadman]
        watch.until(lambda: not watch.last('joy').buttons[LAYOUT.deadman], 'its release')
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        os.close(ours)
        os.close(theirs)
