# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Safety monitor and bridge with a real-time priority: granted or refused, it is shown."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import subprocess
import sys

from diagnostic_msgs.msg import DiagnosticArray
from harness import observer
from powers import without_real_time
import pytest
from rl_nodes.core.scheduling import why_refused
from rl_nodes.nodes import qos

PRIORITY = 7
STATUS = {'safety_monitor': 'safety/state', 'robot_bridge': 'robot/status'}


@contextmanager
def process(name: str, begin: Callable[[], None] | None) -> Iterator[subprocess.Popen]:
    """Run a node for the duration of a block."""
    running = subprocess.Popen(
        [sys.executable, '-m', f'rl_nodes.nodes.{name}', '--ros-args', '-p',
         f'priority:={PRIORITY}'], stderr=subprocess.PIPE, text=True, preexec_fn=begin)
    try:
        yield running
    finally:
        running.terminate()
        running.said = running.communicate(timeout=10)[1]


def priorities(pid: int) -> set[int]:
    """Return the priorities of SCHED_FIFO that threads of a process have."""
    return {os.sched_getparam(int(thread.name)).sched_priority
            for thread in Path(f'/proc/{pid}/task').iterdir()
            if os.sched_getscheduler(int(thread.name)) == os.SCHED_FIFO} or {0}


@pytest.mark.parametrize('name', STATUS)
@pytest.mark.parametrize('begin', [None, without_real_time], ids=['as it is', 'denied'])
def test_the_priority_of_a_process_is_had_or_its_refusal_shown(
        name: str, begin: Callable[[], None] | None) -> None:
    why = 'Operation not permitted' if begin else why_refused(PRIORITY)
    with observer() as seen, process(name, begin) as node:
        seen.listen(DiagnosticArray, STATUS[name], qos.LATCHED)
        seen.until(lambda: 'priority' in seen.values(STATUS[name]), 'its status')
        values, found = seen.values(STATUS[name]), priorities(node.pid)
    if why:
        assert (values['priority'], values['options_refused']) == ('0', f'priority: {why}')
        assert f'goes on without priority {PRIORITY}: priority: {why}' in node.said
        assert found == {0}
    else:
        assert (values['priority'], values['options_refused']) == (str(PRIORITY), '')
        assert found == {PRIORITY}, 'the middleware brings the messages'
    assert node.returncode == 0
