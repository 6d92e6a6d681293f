# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Faults of the machine: all processes gone at once, an interpreter that is kept, no time left."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
import subprocess
import sys

from actors import RATE_HZ, ROOT
from faults import (
    COMMANDS_SILENT,
    Fault,
    goes_on,
    KILL,
    MONITOR_STOP,
    other_server,
    Outcome,
    ROS2,
    STATES_SILENT,
)
from rl_nodes.core.errors import RlNodesError
from rl_nodes.core.scheduling import run_as_usual
from rl_nodes.data.reader import episode_files, read_episode
from stage import Stage

GREEDY_SERVER = ROOT / 'test' / 'emulators' / 'greedy_policy_server.py'
KEPT_S = 0.3
SPINNERS, STARVING_S = 4, 1.0
BUSY = 'while True: pass'


def all_killed(stage: Stage) -> Outcome:
    """Kill every process of the deployment; what drives the motors is another one and holds."""
    at = stage.disturb()
    for actor in stage.actors.values():
        actor.signal(KILL)
    reaction = stage.stand_ms(at)
    stage.ready()
    unreadable = [path.name for path in episode_files([stage.folder / 'run' / 'episodes'])
                  if not readable(path)]
    return Outcome(f'controllers {"move on" if reaction is None else "hold"}, '
                   f'{", ".join(unreadable) or "files readable"}', reaction)


def readable(path: Path) -> bool:
    """Return whether an episode can be read to its end."""
    try:
        return sum(1 for _ in read_episode(path).messages()) > 0
    except RlNodesError:
        return False


def greedy(control_path: str) -> Callable[[Stage], Outcome]:
    """Keep the interpreter of the policy server from everything else in it."""
    def inject(stage: Stage) -> Outcome:
        switch = stage.folder / 'greedy'
        with other_server(stage, GREEDY_SERVER, {'GREEDY_POLICY': str(switch)},
                          f'control_path:={control_path}'):
            at = stage.disturb()
            switch.write_text(str(KEPT_S))
            stage.until(lambda: not switch.exists())
            goes_on(stage, at, round((KEPT_S + 0.2) * RATE_HZ))
            return Outcome(stage.verdict(at))
    return inject


def starving(stage: Stage) -> Outcome:
    """Take the processors; whether there is time enough is luck, but nothing unsafe may pass."""
    at = stage.disturb()
    busy = [subprocess.Popen([sys.executable, '-c', BUSY], preexec_fn=run_as_usual)
            for _ in range(SPINNERS)]
    try:
        stage.live(STARVING_S)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    goes_on(stage, at)
    allowed = ('goes on', COMMANDS_SILENT, STATES_SILENT)
    verdict = stage.verdict(at)
    return Outcome('goes on or stops' if verdict in allowed else verdict)


FAULTS = (
    Fault('A13', 'all processes killed at once', 'controllers hold, files readable', all_killed,
          ROS2, MONITOR_STOP, True),
    Fault('A21', f'interpreter of the policy kept for {KEPT_S} s, control in Python',
          COMMANDS_SILENT, greedy('python'), restarts=True),
    *([Fault('A21', f'interpreter of the policy kept for {KEPT_S} s, control in C++', 'goes on',
             greedy('cpp'), restarts=True)] if find_spec('rl_nodes.realtime._control') else []),
    Fault('A22', f'{SPINNERS} processes that never wait', 'goes on or stops', starving),
)
