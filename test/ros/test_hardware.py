# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
One launch for the simulator, for servos on a bus and for ros2_control; only ``backend`` differs.

The physical robots are emulated: servos on a pseudo-terminal, and a process with the topics of a
controller manager. Whether the robot stands is looked up in the emulator, not in our own states.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from emulators import controller_manager
from emulators.servo_bus import ServoBus
from harness import arm_file, graph, make_bundle, Observer, observer
from rl_nodes.core.robot import load_robot
from rl_nodes.core.types import EpisodeId
from rl_nodes.nodes import qos
from rl_nodes.tasks import load_task
from sensor_msgs.msg import JointState
from test_graph_faults import assert_closed, clear, until_mode, watch

RATE_HZ = 25  # of this robot: a busy machine keeps up with it
STATES = '/joint_state_broadcaster/joint_states'
ELBOW = 2     # its motor reads 1024 at zero, the others 2048


def robot_file(folder: Path, controller: str = 'forward_command_controller') -> Path:
    """Return the shipped arm with the emulators' port and joint names, slower and faster home."""
    path = arm_file(
        folder, ('rate_hz: 50', f'rate_hz: {RATE_HZ}'), ('watchdog_s: 0.1 ', 'watchdog_s: 0.3 '),
        ('command_timeout_s: 0.15', 'command_timeout_s: 0.35'),
        ('home_speed: 0.5', 'home_speed: 1.0\n  reconnect_period_s: 0.5'),
        ('/dev/rl_nodes_arm', str(folder / 'port')),
        ('protocol: feetech', 'protocol: feetech\n  scan_timeout_s: 0.1\n  read_timeout_s: 0.015'),
        ('controller: forward_command_controller', f'controller: {controller}'))
    with path.open('a', encoding='utf-8') as file:
        file.write(controller_manager.SECTION + '  state_timeout_s: 0.3\n')
    return path


class Servos:
    """Six emulated servos."""

    def __init__(self, folder: Path) -> None:
        self.bus = ServoBus('feetech', (1, 2, 3, 4, 5, 6), folder / 'port')

    def position(self, _seen: Observer) -> np.ndarray:
        """Return where they are [rad], having moved to their goals if they do."""
        for servo in self.bus.servos.values():
            servo.advance(time.monotonic())
        ticks = np.array([servo.position for servo in self.bus.servos.values()]) - 2048
        ticks[ELBOW] += 1024
        return ticks * 2 * np.pi / 4096


class Controllers:
    """An emulated controller manager."""

    def __init__(self) -> None:
        self.process = controller_manager.ControllerManagerProcess()

    def position(self, seen: Observer) -> np.ndarray:
        """Return where the simulated robot is [rad], from a state sent after the call."""
        count = len(seen.heard[STATES])
        seen.until(lambda: len(seen.heard[STATES]) > count, 'states of the emulator', 5.0)
        msg = seen.last(STATES)
        values = dict(zip(msg.name, msg.position))
        names = load_robot('arm').joint_names
        return controller_manager.to_ours([values[f'hw_{name}'] for name in names])


@contextmanager
def emulated(backend: str, folder: Path) -> Iterator[Servos | Controllers | None]:
    """Run what a backend needs; ``unplug`` and ``replug`` come with it."""
    if backend == 'servo_bus':
        servos = Servos(folder)
        servos.unplug, servos.replug = servos.bus.unplug, servos.bus.replug
        with servos.bus:
            yield servos
    elif backend == 'ros2_control':
        controllers = Controllers()
        with controllers.process:
            controllers.unplug = controllers.process.kill
            controllers.replug = controllers.process.start
            yield controllers
    else:
        yield None


def launch(backend: str, folder: Path, **arguments: str) -> tuple[str, ...]:
    """Return the command line; it writes the robot and an untrained policy for it."""
    robot = robot_file(folder)
    policy = make_bundle(load_task(str(robot), 'reach').contract, gain=1.0).save(
        folder / 'policy.onnx')
    return ('deploy', f'policy:={policy}', f'robot:={robot}', f'backend:={backend}',
            f'run_dir:={folder / "run"}', 'episodes:=0', 'arm_on_start:=false',
            *(f'{key}:={value}' for key, value in arguments.items()))


def listen(seen: Observer) -> None:
    watch(seen)
    seen.listen(JointState, STATES, qos.SENSOR)


def episode(seen: Observer) -> EpisodeId:
    last = seen.last('joint_states')
    return EpisodeId.parse(last.header.frame_id) if last else EpisodeId(-1, 0)


def until_phase(seen: Observer, phase: str, timeout_s: float = 20.0) -> None:
    seen.until(lambda: seen.values('robot/status').get('phase') == phase, f'phase {phase}',
               timeout_s)


def operate(seen: Observer, condition: Callable[[], bool], what: str) -> None:
    """
    Wait for what a moving robot does, clearing a stop for silence as an operator would.

    A machine that stalls for longer than the watchdog stops the robot, rightly; it says nothing
    of the backend. Any other stop fails.
    """
    deadline = time.monotonic() + 40.0
    pause(seen, 0.3)  # word of the last clearance is still on its way
    while not condition():
        assert time.monotonic() < deadline, f'no {what}; {seen.values("safety/state")}'
        state = seen.values('safety/state')
        if state.get('mode') == 'STOPPED':
            assert 'silence' in state['check'], state
            clear(seen)
            seen.until(lambda: seen.values('safety/state')['mode'] != 'STOPPED', 'clearance')
        pause(seen, 0.05)


def until_moved(seen: Observer) -> None:
    """Wait until an episode runs and the robot has moved in it."""
    operate(seen, lambda: episode(seen).number > 0, 'episode')
    start = np.array(seen.last('joint_states').position)
    operate(seen, lambda: np.abs(
        np.array(seen.last('joint_states').position) - start).max() > 0.05, 'motion')


def assert_stands(robot: Servos | Controllers, seen: Observer) -> None:
    """Let the robot's motion settle, then see none for a while."""
    pause(seen, 0.3)
    before = robot.position(seen)
    pause(seen, 0.5)
    drift = np.abs(robot.position(seen) - before).max()
    assert drift < 0.01, f'{drift} rad'


def pause(seen: Observer, seconds: float) -> None:
    end = time.monotonic() + seconds
    seen.until(lambda: time.monotonic() > end, 'time')


@pytest.mark.parametrize('backend', [
    pytest.param('pybullet', marks=pytest.mark.slow), 'servo_bus',
    pytest.param('ros2_control', marks=pytest.mark.slow)])
def test_the_same_launch_runs_on_every_robot(backend: str, tmp_path: Path) -> None:
    """STOPPED until cleared; moves; stays inside the limits; Ctrl-C: holds, files closed."""
    with observer() as seen, emulated(backend, tmp_path) as robot, \
            graph(*launch(backend, tmp_path)) as run:
        listen(seen)
        until_mode(seen, 'STOPPED')
        seen.until(lambda: len(seen.heard['joint_states']) > 30, 'states')
        first = np.array(seen.heard['joint_states'][0][1].position)
        assert not seen.heard['joint_command']
        if robot is not None:
            np.testing.assert_allclose(seen.last('joint_states').position, first, atol=0.01)
            assert episode(seen).intermission
        clear(seen)
        until_moved(seen)
        number = episode(seen).number
        operate(seen, lambda: episode(seen).number > number, 'next episode')
        following = episode(seen).number
        model = load_robot('arm')
        states = np.array([msg.position for _, msg in seen.heard['joint_states']])
        assert (states >= model.limits('lower') - 0.01).all()
        assert (states <= model.limits('upper') + 0.01).all()
        if robot is not None:
            starts = [msg.position for _, msg in seen.heard['joint_states']
                      if EpisodeId.parse(msg.header.frame_id).number == following]
            np.testing.assert_allclose(starts[0], model.home, atol=0.06)
            assert seen.values('robot/status')['episodes_void'] == '0'
        at = time.monotonic()
        run.interrupt()
        assert run.wait(10) == 0, run.output
        assert time.monotonic() - at < 4.0
        assert 'Traceback' not in run.output
        assert_closed(tmp_path / 'run' / 'episodes')
        if robot is not None:
            assert_stands(robot, seen)


@pytest.mark.parametrize('backend', [
    'servo_bus', pytest.param('ros2_control', marks=pytest.mark.slow)])
def test_the_robot_stands_when_the_policy_is_killed(backend: str, tmp_path: Path) -> None:
    with observer() as seen, emulated(backend, tmp_path) as robot, \
            graph(*launch(backend, tmp_path)) as run:
        listen(seen)
        seen.until(lambda: bool(seen.heard['joint_states']), 'states')
        clear(seen)
        until_moved(seen)
        os.kill(run.nodes()['policy_server'], signal.SIGKILL)
        assert run.wait(10) != 0
        assert_stands(robot, seen)


@pytest.mark.parametrize('backend', [
    'servo_bus', pytest.param('ros2_control', marks=pytest.mark.slow)])
def test_unplugged_is_a_fault_and_replugged_recovers_after_a_person_cleared(
        backend: str, tmp_path: Path) -> None:
    """The same processes go on; the episode that was cut does not count."""
    with observer() as seen, emulated(backend, tmp_path) as robot, \
            graph(*launch(backend, tmp_path)) as run:
        listen(seen)
        seen.until(lambda: bool(seen.heard['joint_states']), 'states')
        clear(seen)
        until_moved(seen)
        nodes, cut = run.nodes(), episode(seen)
        robot.unplug()
        until_phase(seen, 'LOST')
        status = seen.last('robot/status').status[0]
        assert status.level == b'\x02'
        assert 'out of reach' in status.message
        assert ('port' if backend == 'servo_bus' else STATES) in status.message
        assert seen.values('robot/status')['episodes_void'] == '1'
        assert seen.values('robot/status')['last_void'].startswith(str(cut))
        until_mode(seen, 'STOPPED')
        robot.replug()
        until_phase(seen, 'WAITING')
        count = len(seen.heard['joint_states'])
        seen.until(lambda: len(seen.heard['joint_states']) > count + 10, 'states')
        assert episode(seen).intermission
        assert seen.values('safety/state')['mode'] == 'STOPPED'
        assert_stands(robot, seen)
        clear(seen)
        until_moved(seen)
        assert episode(seen).number == cut.number + 1
        assert run.nodes() == nodes


def test_a_stop_on_the_way_home_stops_it(tmp_path: Path) -> None:
    """The way home is no command of the policy, yet the monitor's stop ends it."""
    with observer() as seen, emulated('servo_bus', tmp_path) as robot:
        robot.bus.servos[1].position += 1200.0  # 1.8 rad
        with graph(*launch('servo_bus', tmp_path)):
            listen(seen)
            seen.until(lambda: bool(seen.heard['joint_states']), 'states')
            start = robot.position(seen)
            clear(seen)
            seen.until(lambda: bool(np.abs(robot.position(seen) - start).max() > 0.1), 'motion')
            assert episode(seen).intermission
            assert seen.call('safety_monitor/stop').success
            assert_stands(robot, seen)
            assert np.abs(robot.position(seen) - load_robot('arm').home).max() > 0.3
            clear(seen)
            until_moved(seen)


@pytest.mark.slow
def test_a_trajectory_controller_with_late_and_lost_states(tmp_path: Path) -> None:
    """The other controller; states 20 ms late and a fifth of them lost are still a robot."""
    with observer() as seen, controller_manager.ControllerManagerProcess(
            '--kind', 'joint_trajectory_controller') as process:
        arguments = launch('ros2_control', tmp_path)
        robot_file(tmp_path, 'joint_trajectory_controller')
        with graph(*arguments) as run:
            listen(seen)
            seen.until(lambda: bool(seen.heard['joint_states']), 'states')
            process.say('latency 0.02')
            process.say('loss 0.2')
            clear(seen)
            until_moved(seen)
            assert 'LOST' not in run.output
            process.say('stop')
            until_phase(seen, 'LOST')
            process.say('go')
            until_phase(seen, 'WAITING')
            clear(seen)
            until_moved(seen)


def bridge(robot: Path, *parameters: str) -> subprocess.CompletedProcess:
    """Run a bridge that is expected to refuse."""
    begin = time.monotonic()
    given = [word for parameter in parameters for word in ('-p', parameter)]
    done = subprocess.run(
        [sys.executable, '-m', 'rl_nodes.nodes.robot_bridge', '--ros-args', '-p',
         f'robot:="{robot}"', '-p', 'task:=reach', *given], capture_output=True, text=True,
        timeout=30, check=False)
    assert done.returncode == 2, done.stderr
    assert 'Traceback' not in done.stderr
    assert time.monotonic() - begin < 20
    return done


@pytest.mark.parametrize(('options', 'settings', 'message'), [
    ((), 'state_topic: /nowhere\n  connect_timeout_s: 2', 'no joint states on /nowhere'),
    (('--lacking',), '', 'only the robot has: hw_shoulder_lift'),
    (('--rate', '10'), '', r'comes with (9|10)\.\d Hz by its stamps'),
    (('--tight', '0.5'), '', 'upper is 2.9000 here, 2.4000 there'),
    (('--name', 'other'), 'connect_timeout_s: 3', 'no controller /forward_position_controller'),
])
def test_controllers_that_do_not_fit_are_refused_with_the_difference(
        options: tuple[str, ...], settings: str, message: str, tmp_path: Path) -> None:
    robot = robot_file(tmp_path)
    robot.write_text(f'{robot.read_text()}  {settings}\n', encoding='utf-8')
    with controller_manager.ControllerManagerProcess(*options):
        assert re.search(message, bridge(robot, 'backend:=ros2_control').stderr)


def test_hardware_refuses_lockstep_and_a_missing_port(tmp_path: Path) -> None:
    robot = robot_file(tmp_path)
    assert 'does not wait' in bridge(robot, 'backend:=servo_bus', 'stepping:=lockstep').stderr
    assert 'port' in bridge(robot, 'backend:=servo_bus').stderr


def test_the_monitor_refuses_to_arm_a_physical_robot() -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'rl_nodes.nodes.safety_monitor', '--ros-args', '-p',
         'arm_on_start:=true', '-p', 'backend:=servo_bus'], capture_output=True, text=True,
        timeout=30, check=False)
    assert done.returncode == 2
    assert 'only a person may allow' in done.stderr
