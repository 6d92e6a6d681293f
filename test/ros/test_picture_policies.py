# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Policies that see pictures in a running graph: they answer, fall silent, and come back."""

from collections.abc import Iterator
import os
from pathlib import Path
import signal
import time

from diagnostic_msgs.msg import DiagnosticArray
from harness import graph, make_seeing_bundle, Observer, observer, refusal_of_policy_server
import numpy as np
import pytest
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import find_config
from rl_nodes.core.types import RobotState
from rl_nodes.data.reader import read_episode
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import pictures, qos
from rl_nodes.nodes.picture_inbox import PictureInbox
from rl_nodes.nodes.policy_expert import PolicyExpert
from rl_nodes.tasks import load_task
from rl_nodes.tasks.base import Task
from sensor_msgs.msg import JointState
from test_parity import recorded

WIDTH, HEIGHT, SEED = 96, 64, 11
CAMERAS = f"""cameras:
  - {{name: wrist, link: tool, xyz: [0.04, 0.0, -0.02], rpy: [0.0, -1.0, 0.0],
     width: {WIDTH}, height: {HEIGHT}, rate_hz: 20, far_m: 3.0}}
"""
PICTURES = 'pictures:\n  - {camera: wrist, width: 32, height: 24, max_age_s: 0.4}\n'


@pytest.fixture
def names(tmp_path: Path) -> tuple[str, str]:
    """Return (robot, task): the arm with a small camera, reaching by what it sees."""
    head, _, rest = find_config('robots', 'arm').read_text().partition('cameras:')
    robot, task = tmp_path / 'arm.yaml', tmp_path / 'see.yaml'
    robot.write_text(head + CAMERAS + rest[rest.index('hardware:'):])
    task.write_text(find_config('tasks', 'reach').read_text().replace(
        'episode_s: 2.0', 'episode_s: 0.5') + PICTURES)
    return str(robot), str(task)


@pytest.fixture
def policy(names: tuple[str, str], tmp_path: Path) -> Path:
    return make_seeing_bundle(load_task(*names).contract).save(tmp_path / 'seer.onnx')


def silent(seen: Observer, word: str) -> bool:
    """Return whether policy/status warns and names something."""
    message = seen.last('policy/status')
    return message is not None and message.status[0].level == b'\x01' \
        and word in message.status[0].message


@pytest.mark.slow
def test_a_camera_that_stalls_silences_the_policy_until_it_is_back(
        names: tuple[str, str], policy: Path, tmp_path: Path) -> None:
    with observer() as seen, graph(
            'deploy', f'policy:={policy}', f'robot:={names[0]}', f'task:={names[1]}',
            'episodes:=0', f'run_dir:={tmp_path / "run"}') as run:
        for topic in ('policy/status', 'safety/state', 'recorder/status'):
            seen.listen(DiagnosticArray, topic, qos.LATCHED)
        seen.listen(JointState, 'policy/joint_command', qos.STREAM)
        seen.until(lambda: len(seen.heard['policy/joint_command']) > 100, 'commands')
        seen.until(lambda: int(seen.values('policy/status').get('wrist/pictures', 0)) > 10,
                   'pictures in the status')
        values = seen.values('policy/status')
        assert values['control_path'] == 'python (task see observes pictures)'
        assert values['wrist/pictures_refused'] == '0'
        assert float(values['wrist/age_p50_ms']) < 400.0
        seen.until(lambda: seen.last('safety/state').status[0].message.startswith('OK')
                   or seen.values('safety/state').get('mode') == 'OK', 'a robot that moves')
        nodes = run.nodes()
        victim = nodes['camera']
        os.kill(victim, signal.SIGSTOP)
        try:
            seen.until(lambda: silent(seen, 'silent: camera wrist: its newest picture is'),
                       'the policy server naming the camera', 10.0)
            seen.until(lambda: 'command' in seen.last('safety/state').status[0].message,
                       'the safety monitor holding the robot', 10.0)
            assert int(seen.values('policy/status')['dropped_picture_stale']) > 0
            frozen = len(seen.heard['policy/joint_command'])
            stale = int(seen.values('policy/status')['dropped_picture_stale'])
            seen.until(lambda: int(seen.values('policy/status')['dropped_picture_stale'])
                       > stale + 20, 'states that are not answered', 10.0)
            assert len(seen.heard['policy/joint_command']) == frozen
        finally:
            os.kill(victim, signal.SIGCONT)
        seen.until(lambda: len(seen.heard['policy/joint_command']) > frozen + 50, 'commands', 10.0)
        seen.until(lambda: seen.last('policy/status').status[0].level == b'\x00',
                   'the policy server content again', 10.0)
        seen.until(lambda: seen.call('safety_monitor/clear_stop').success, 'a stop cleared', 10.0)
        assert run.nodes() == nodes, 'nobody was started again'
        run.interrupt()
        assert run.wait(10) == 0, run.output
    assert 'no action: camera wrist: its newest picture is' in run.output


def test_in_lockstep_it_sees_the_bits_of_the_environment(names: tuple[str, str],
                                                         tmp_path: Path) -> None:
    task, episodes = load_task(*names), 3
    bundle = make_seeing_bundle(task.contract)
    with observer() as seen, graph(
            'deploy', f'policy:={bundle.save(tmp_path / "seer.onnx")}', f'robot:={names[0]}',
            f'task:={names[1]}', 'stepping:=lockstep', 'real_time_factor:=0.5',
            f'episodes:={episodes}', f'seed:={SEED}', f'run_dir:={tmp_path / "run"}') as run:
        seen.listen(DiagnosticArray, 'policy/status', qos.LATCHED)
        seen.listen(JointState, 'policy/joint_command', qos.STREAM)
        seen.until(lambda: len(seen.heard['policy/joint_command']) > 10, 'commands')
        victim = run.nodes()['camera']
        os.kill(victim, signal.SIGSTOP)  # which changes nothing of what is seen
        try:
            seen.until(lambda: silent(seen, 'silent: waiting for the picture of camera wrist'),
                       'the policy server naming the camera', 10.0)
        finally:
            os.kill(victim, signal.SIGCONT)
        assert run.wait(100) == 0, run.output
    batches, _ = recorded(tmp_path / 'run' / 'episodes', task)
    states = [message.data[4:12] for path in (tmp_path / 'run' / 'episodes').glob('*.mcap')
              for message in read_episode(path).messages(('joint_states',))]
    asked_again = len(states) - len(set(states))
    assert asked_again < len(states) / 5, 'pictures are not waited for, they are found by chance'
    env, policy = SimEnv(*names), PolicyRuntime(bundle)
    distances = []
    try:
        for number in range(episodes):
            observed, _ = env.reset(seed=SEED if number == 0 else None)
            for row, expected in enumerate(batches[number].observation):
                assert observed['observation'].tobytes() == expected.tobytes(), (number, row)
                action = policy.act(observed['observation'],
                                    pictures=(observed['picture_wrist'],)).copy()
                assert action.tobytes() == batches[number].wanted[row].tobytes()
                blind = policy.act(observed['observation'], pictures=(
                    np.zeros_like(observed['picture_wrist']),))
                distances.append(np.abs(action - blind).max())
                observed, _, terminated, truncated, _ = env.step(action)
            assert terminated or truncated
    finally:
        env.close()
    assert min(distances) > 1e-3, 'a policy that does not look proves nothing'


def test_the_fast_path_and_a_shadow_are_refused(names: tuple[str, str], policy: Path) -> None:
    given = (f'robot:={names[0]}', f'task:={names[1]}', 'stepping:=realtime')
    said = refusal_of_policy_server(policy, *given, 'control_path:=cpp')
    assert 'control_path = cpp cannot be had: task see observes pictures' in said
    said = refusal_of_policy_server(policy, *given, f'shadow:={policy}')
    assert 'task see observes pictures, which a shadow does not see' in said


def test_a_demonstrating_policy_that_sees_is_refused(names: tuple[str, str],
                                                     policy: Path) -> None:
    with pytest.raises(ConfigError, match='observes pictures, which a demonstrating policy'):
        PolicyExpert(str(policy), load_task(*names))


# --- a camera with another driver ---------------------------------------------------------------

class _Server:
    """What an inbox needs of the policy server."""

    def __init__(self, task: Task, node: Node) -> None:
        self.task, self.lockstep, self._node = task, False, node
        self.faults: list[str] = []
        self.fault = self.faults.append
        self.get_name, self.get_namespace = node.get_name, node.get_namespace
        self.resolve_topic_name = node.resolve_topic_name


@pytest.fixture
def node(ros_domain_id: int) -> Iterator[Node]:
    context = Context()
    context.init(args=[], domain_id=ros_domain_id)
    node = Node('driver', context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


def until(condition, what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize('profile', [qos.PICTURE, qos.ONLOOKER], ids=['reliable', 'best effort'])
def test_drivers_of_either_kind_are_heard(names: tuple[str, str], node: Node,
                                          profile: QoSProfile) -> None:
    task = load_task(*names)
    camera, arrived = task.sights[0].camera, []
    server = _Server(task, node)
    inbox = PictureInbox(server, ('',), lambda: arrived.append(time.monotonic()))
    desk, q = inbox.desks[''], np.zeros(6)
    try:
        driver = node.create_publisher(pictures.Image, 'camera/wrist/image_raw', profile)
        red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        red[:, :, 0] = 200

        def send(stamp_ns: int, **changes: object) -> None:
            msg = pictures.picture_to_msg(camera, stamp_ns, red)
            for name, value in changes.items():
                setattr(msg, name, value)
            driver.publish(msg)

        def taken(stamp_ns: int, **changes: object) -> bool:
            before = len(arrived)
            send(stamp_ns, **changes)
            time.sleep(0.05)
            return len(arrived) > before

        until(lambda: taken(1_000), 'a picture')
        state = RobotState(1_000, '1@0', q, q, np.empty(0))
        picture, = desk.look(state)
        assert picture.shape == (24, 32, 3) and (picture == [200, 0, 0]).all()
        until(lambda: taken(2_000, encoding='bgr8'), 'another encoding')
        assert (desk.look(state)[0] == [0, 0, 200]).all()
        until(lambda: taken(3_000, encoding='16UC1'), 'a wrong encoding')
        assert desk.details()['wrist/pictures_refused'] > 0
        until(lambda: taken(4_000), 'a picture again')
        assert (desk.look(state)[0] == [200, 0, 0]).all()
    finally:
        inbox.close()
    assert not server.faults
    assert not inbox._thread.is_alive()
