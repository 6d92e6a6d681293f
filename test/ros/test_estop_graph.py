# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""An emergency stop between processes: pressed, silent, released; and what is kept of it."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from harness import arm_file, graph, observer, source_of
from mcap.reader import make_reader
from rl_nodes.cli import main
from test_graph_faults import clear, deploy, until_mode, until_moving, watch

TIMEOUT_S = 0.3
# Whoever reads a button: sends its state every 20 ms; a line on standard input changes it.
SENDER = """
import sys, threading
import rclpy
from std_msgs.msg import Bool
rclpy.init()
node = rclpy.create_node('button')
topic = node.create_publisher(Bool, 'safety_monitor/estop', 10)
pressed, ended = [False], threading.Event()
def listen():
    for line in sys.stdin:
        pressed[0] = line.strip() == 'press'
        topic.publish(Bool(data=pressed[0]))
    ended.set()
threading.Thread(target=listen, daemon=True).start()
while not ended.wait(0.02):
    topic.publish(Bool(data=pressed[0]))
"""


@contextmanager
def button() -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([sys.executable, '-c', SENDER], text=True, stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def say(process: subprocess.Popen, what: str) -> float:
    """Press or release; return when."""
    process.stdin.write(f'{what}\n')
    process.stdin.flush()
    return time.monotonic()


def robot_file(folder: Path) -> str:
    """Return the arm with an e-stop, and patient otherwise: processes start in this test."""
    return str(arm_file(
        folder, ('safety:\n', f'safety:\n  estop: {{topic: true, timeout_s: {TIMEOUT_S}}}\n'),
        ('watchdog_s: 0.1 ', 'watchdog_s: 2.0 '),
        ('command_timeout_s: 0.15\n', 'command_timeout_s: 2.0\n')))


def test_a_button_stops_the_robot_and_so_does_its_silence(policy_path: Path, tmp_path: Path,
                                                          capsys) -> None:
    with observer() as seen, graph(
            *deploy(policy_path, tmp_path, f'robot:={robot_file(tmp_path)}')) as run:
        watch(seen)

        def stopped_after(at: float, limit_s: float) -> None:
            seen.until(lambda: source_of(seen.last('joint_command')) == 'monitor',
                       'a stop command from the monitor', 5.0)
            reaction_s = seen.heard['joint_command'][-1][0] - at
            assert reaction_s < limit_s, f'{reaction_s * 1e3:.0f} ms'
            until_mode(seen, 'STOPPED', 5.0)
            assert seen.values('safety/state')['check'] == 'estop'

        def refused(why: str) -> None:
            answer = seen.call('safety_monitor/clear_stop')
            assert (answer.success, why in answer.message) == (False, True), answer.message

        def stays_stopped() -> None:
            count = len(seen.heard['joint_command'])
            states = len(seen.heard['joint_states'])
            seen.until(lambda: len(seen.heard['joint_states']) > states + 40, 'states')
            assert len(seen.heard['joint_command']) == count
            assert seen.values('safety/state')['mode'] == 'STOPPED'

        until_mode(seen, 'STOPPED')
        seen.until(lambda: len(seen.heard['joint_states']) > 100, 'states')
        assert 'nothing heard' in seen.values('safety/state')['estop']
        refused('nothing heard')
        with button() as sender:
            until_moving(seen)      # armed at start, once all is healthy
            stopped_after(say(sender, 'press'), 0.15)
            refused('e-stop topic: pressed')
            say(sender, 'release')
            seen.until(lambda: seen.values('safety/state')['estop'] == 'released', 'a release')
            stays_stopped()
            clear(seen)
            until_moving(seen)
            at = time.monotonic()
            os.kill(sender.pid, signal.SIGKILL)
            stopped_after(at, TIMEOUT_S + 0.2)
            refused('silent')
        with button():
            seen.until(lambda: seen.values('safety/state')['estop'] == 'released', 'a release')
            stays_stopped()
            clear(seen)
            until_moving(seen)
        until_mode(seen, 'STOPPED', 5.0)
        run.interrupt()
        assert run.wait(20) == 0
    events = tmp_path / 'run' / 'safety_events'
    topics: set[str] = set()
    for path in events.iterdir():
        assert path.suffix == '.mcap'
        with path.open('rb') as stream:
            topics |= {channel.topic for _, channel, _ in make_reader(
                stream, validate_crcs=True).iter_messages()}
    assert topics == {'joint_states', 'policy/joint_command', 'joint_command', 'safety/decision',
                      'safety/state'}
    assert main(['safety', 'report', str(tmp_path / 'run')]) == 0
    text = capsys.readouterr().out
    assert text.count('e-stop topic: pressed') == 1
    assert text.count('e-stop topic: silent') == 2
    assert (events.parent / 'safety_report.png').stat().st_size > 10_000
