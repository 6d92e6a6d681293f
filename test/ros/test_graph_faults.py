# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Graphs as a user starts them, with their processes killed and interrupted.

What else may go wrong while a graph runs: ``test_faults.py``.
"""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
from harness import graph, GraphProcess, Observer, observer, source_of, until_moving
import pytest
from rl_nodes.core import ros_environment
from rl_nodes.data.reader import read_episode
from rl_nodes.nodes import qos
from sensor_msgs.msg import JointState

REALTIME = ('stepping:=realtime', 'episodes:=0')


def watch(seen: Observer) -> None:
    """Listen to everything these tests judge by."""
    seen.listen(DiagnosticArray, 'safety/state', qos.LATCHED)
    seen.listen(DiagnosticArray, 'robot/status', qos.LATCHED)
    seen.listen(JointState, 'joint_command', qos.SENSOR)
    seen.listen(JointState, 'joint_states', qos.SENSOR)


def until_mode(seen: Observer, mode: str, timeout_s: float = 30.0) -> None:
    seen.until(lambda: seen.values('safety/state').get('mode') == mode, f'mode {mode}', timeout_s)


def clear(seen: Observer) -> None:
    """Clear a stop as an operator does: again, until the healthy second has passed."""
    deadline = time.monotonic() + 20
    while not (answer := seen.call('safety_monitor/clear_stop')).success:
        assert time.monotonic() < deadline, answer.message
        seen.until(lambda at=time.monotonic() + 0.2: time.monotonic() > at, 'a moment')


def deploy(policy: Path, folder: Path, *more: str) -> tuple[str, ...]:
    return ('deploy', f'policy:={policy}', f'run_dir:={folder / "run"}', *REALTIME, *more)


def test_policy_server_killed_stops_the_robot_and_ends_everything(policy_path: Path,
                                                                  tmp_path: Path) -> None:
    """The robot is told to stand within the watchdog (100 ms) and a little."""
    with observer() as seen, graph(*deploy(policy_path, tmp_path)) as run:
        watch(seen)
        until_moving(seen)
        at = time.monotonic()
        os.kill(run.nodes()['policy_server'], signal.SIGKILL)
        seen.until(lambda: source_of(seen.last('joint_command')) == 'monitor',
                   'a stop command from the monitor', 5.0)
        reaction_s = seen.heard['joint_command'][-1][0] - at
        assert reaction_s < 0.3, f'{reaction_s * 1e3:.0f} ms'
        assert run.wait(10) != 0
        assert 'policy_server' in run.output


def test_safety_monitor_killed_ends_everything(policy_path: Path, tmp_path: Path) -> None:
    with observer() as seen, graph(*deploy(policy_path, tmp_path)) as run:
        watch(seen)
        until_moving(seen)
        os.kill(run.nodes()['safety_monitor'], signal.SIGKILL)
        assert run.wait(10) != 0
        assert 'safety_monitor' in run.output
        assert run.nodes() == {}


def test_the_launcher_killed_leaves_a_stopped_robot_and_no_process(policy_path: Path,
                                                                   tmp_path: Path) -> None:
    """A12: its nodes end in good order, the monitor with a last stop, files closed."""
    with observer() as seen, graph(*deploy(policy_path, tmp_path)) as run:
        watch(seen)
        until_moving(seen)
        nodes = run.nodes()
        at = time.monotonic()
        os.kill(run.pid, signal.SIGKILL)
        seen.until(lambda: source_of(seen.last('joint_command')) == 'monitor',
                   'a last stop from the monitor', 5.0)
        seen.until(lambda: not any(alive(pid) for pid in nodes.values()), 'the end', 5.0)
        assert time.monotonic() - at < 3.0
        assert run.wait(10) == -signal.SIGKILL
        assert len(nodes) == 6
        assert_closed(tmp_path / 'run' / 'episodes')


def alive(pid: int) -> bool:
    """Return whether a process has not ended."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


# Own mounts, and nothing left in /dev/shm, for the command that follows. The tracing that comes
# with ROS 2 has its two pages there already, as on a machine on which ROS 2 ran before.
FULL_SHARED_MEMORY = (
    'unshare', '--mount', 'sh', '-ec', 'mount -t tmpfs -o size=64k none /dev/shm; '
    '"$0" -c "import rclpy"; cat /dev/zero > /dev/shm/full 2> /dev/null || exec "$@"',
    sys.executable)


def test_no_node_shares_memory_that_a_killed_one_could_leave_locked(
        policy_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E7: so it may also be full."""
    for name in (ros_environment.TRANSPORTS, ros_environment.PROFILES):
        monkeypatch.delenv(name)
    monkeypatch.setenv(ros_environment.RANGE, 'LOCALHOST')
    full = subprocess.run([*FULL_SHARED_MEMORY, 'true'], check=False).returncode == 0
    with observer() as seen, graph(*deploy(policy_path, tmp_path),
                                   within=FULL_SHARED_MEMORY if full else ()) as run:
        watch(seen)
        until_moving(seen)
        nodes = run.nodes()
        assert len(nodes) == 6
        for name, pid in nodes.items():
            assert 'shm/fastrtps' not in Path(f'/proc/{pid}/maps').read_text(), name
            assert not full or Path('/proc', str(pid), 'root', 'dev/shm/full').stat().st_size > 0
    if not full:
        pytest.skip('/dev/shm cannot be filled for a process here; nobody used it, though')


@pytest.mark.parametrize('victim', [
    'experience_recorder', pytest.param('reward_computer', marks=pytest.mark.slow)])
def test_recorder_or_reward_computer_killed_control_goes_on(policy_path: Path, tmp_path: Path,
                                                            victim: str) -> None:
    with observer() as seen, graph(*deploy(policy_path, tmp_path)) as run:
        watch(seen)
        until_moving(seen)
        os.kill(run.nodes()[victim], signal.SIGKILL)
        count = len(seen.heard['joint_command'])
        seen.until(lambda: len(seen.heard['joint_command']) > count + 75, 'commands', 5.0)
        assert seen.values('safety/state')['mode'] in ('OK', 'LIMITING')
        run.interrupt()
        assert run.wait(10) == 1, run.output
        assert f'{victim} DIED (killed by SIGKILL): CONTROL GOES ON' in run.output


def test_reset_by_hand_starts_another_episode(policy_path: Path, tmp_path: Path) -> None:
    with observer() as seen, graph(*deploy(policy_path, tmp_path)):
        watch(seen)
        until_moving(seen)
        before = seen.last('joint_states').header.frame_id
        assert seen.call('robot_bridge/reset').success
        seen.until(lambda: seen.last('joint_states').header.frame_id != before, 'an episode', 1.0)
        until_moving(seen)


def test_stop_service_is_latched_until_cleared(policy_path: Path, tmp_path: Path) -> None:
    with observer() as seen, graph(*deploy(policy_path, tmp_path)):
        watch(seen)
        until_moving(seen)
        assert seen.call('safety_monitor/stop').success
        until_mode(seen, 'STOPPED', 2.0)
        assert seen.values('safety/state')['check'] == 'operator'
        count = len(seen.heard['joint_states'])
        seen.until(lambda: len(seen.heard['joint_states']) > count + 30, 'states')
        assert seen.values('safety/state')['mode'] == 'STOPPED'
        clear(seen)
        until_moving(seen)


def test_without_arming_nothing_moves_until_an_operator_clears(policy_path: Path,
                                                               tmp_path: Path) -> None:
    with observer() as seen, graph(*deploy(policy_path, tmp_path, 'arm_on_start:=false')):
        watch(seen)
        until_mode(seen, 'STOPPED')
        seen.until(lambda: len(seen.heard['joint_states']) > 100, 'states')
        assert not seen.heard['joint_command']
        clear(seen)
        until_moving(seen)


@pytest.mark.parametrize('stepping', ['realtime', 'lockstep'])
def test_ctrl_c_ends_the_graph_within_three_seconds_files_closed(
        policy_path: Path, tmp_path: Path, stepping: str) -> None:
    with observer() as seen, graph('deploy', f'policy:={policy_path}', 'episodes:=0',
                                   f'stepping:={stepping}', f'run_dir:={tmp_path / "run"}') as run:
        watch(seen)
        until_moving(seen)
        at = time.monotonic()
        run.interrupt()
        assert run.wait(10) == 0, run.output
        assert time.monotonic() - at < 3.0
        assert_closed(tmp_path / 'run' / 'episodes')
        assert 'Traceback' not in run.output


def assert_closed(folder: Path) -> None:
    """Every episode of a folder is complete and readable."""
    assert not list(folder.glob('*.partial'))
    episodes = sorted(folder.glob('*.mcap'))
    assert episodes
    for path in episodes:
        episode = read_episode(path)
        assert episode.metadata['robot'] == 'arm'
        assert episode.contract.task == 'reach'
        assert sum(1 for _ in episode.messages()) > 0


def test_a_second_graph_and_a_second_node_are_refused_and_the_first_goes_on(
        policy_path: Path, tmp_path: Path) -> None:
    with observer() as seen, graph(*deploy(policy_path, tmp_path)) as run:
        watch(seen)
        until_moving(seen)
        second = GraphProcess(*deploy(policy_path, tmp_path / 'second'))
        assert second.wait(5) != 0
        assert 'already running' in second.output
        assert 'ROS_DOMAIN_ID' in second.output
        assert 'Traceback' not in second.output
        alone = subprocess.run(
            [sys.executable, '-m', 'rl_nodes.nodes.safety_monitor'], capture_output=True,
            text=True, timeout=10, check=False)
        assert alone.returncode == 2
        assert 'already running' in alone.stderr
        assert 'Traceback' not in alone.stderr
        assert run.running
        until_moving(seen)


@pytest.mark.slow
def test_namespaces_keep_two_graphs_apart(policy_path: Path, tmp_path: Path) -> None:
    with observer() as seen, \
            graph(*deploy(policy_path, tmp_path / 'a', 'namespace:=left')), \
            graph(*deploy(policy_path, tmp_path / 'b', 'namespace:=right')):
        for side in ('left', 'right'):
            seen.listen(DiagnosticArray, f'/{side}/safety/state', qos.LATCHED)
        for side in ('left', 'right'):
            seen.until(lambda side=side: seen.values(f'/{side}/safety/state').get('mode') == 'OK',
                       f'{side} moving', 60.0)
