# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The graph for a long time: nothing grows, nothing stops.

``make soak`` runs half an hour; SOAK_S=120 in the environment makes it shorter.
"""

import os
from pathlib import Path
import time

from diagnostic_msgs.msg import DiagnosticArray
from harness import graph, GraphProcess, observer
import pytest
from rl_nodes.nodes import qos

SOAK_S = float(os.environ.get('SOAK_S', '1800'))
WARM_UP = 0.25          # part of the time in which caches may still fill
GROWTH_KIB = 20_000     # per process, over the rest of the time
# While the robot may not move yet there are steps without a command; afterwards nothing is lost.
LOSSES = ('gap', 'no_command', 'reward_missing', 'invalid', 'overflow', 'messages_dropped')


def footprint(run: GraphProcess) -> dict[str, tuple[int, int, int, int]]:
    """Return (resident memory [KiB], open files, threads, shared segments) of every node."""
    found = {}
    for name, pid in run.nodes().items():
        status = dict(line.split(':', 1) for line in
                      Path(f'/proc/{pid}/status').read_text().splitlines() if ':' in line)
        found[name] = (int(status['VmRSS'].split()[0]),
                       len(list(Path(f'/proc/{pid}/fd').iterdir())), int(status['Threads']),
                       Path(f'/proc/{pid}/maps').read_text().count('/dev/shm/'))
    return found


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize('stepping', ['lockstep', 'realtime'])
def test_nothing_grows_and_nothing_stops(policy_path: Path, tmp_path: Path,
                                         stepping: str) -> None:
    with observer() as seen, graph('deploy', f'policy:={policy_path}', 'episodes:=0',
                                   f'stepping:={stepping}', f'run_dir:={tmp_path / "run"}') as run:
        for topic in ('safety/state', 'robot/status', 'recorder/status'):
            seen.listen(DiagnosticArray, topic, qos.LATCHED)
        seen.until(lambda: seen.values('safety/state').get('mode') in ('OK', 'LIMITING'),
                   'motion')
        start = time.monotonic()
        seen.until(lambda: time.monotonic() - start > SOAK_S * WARM_UP, 'warm-up', SOAK_S)
        before = footprint(run)
        lost = {key: seen.values('recorder/status')[key] for key in LOSSES}
        assert len(before) == 6
        seen.until(lambda: time.monotonic() - start > SOAK_S, 'the end', SOAK_S + 60)
        after = footprint(run)
        safety = seen.values('safety/state')
        assert safety['mode'] in ('OK', 'LIMITING'), safety
        assert int(safety.get('stop', 0)) == 0, safety
        for name, (memory, files, threads, segments) in before.items():
            assert after[name][0] - memory < GROWTH_KIB, f'{name} grew: {before} -> {after}'
            assert after[name][1] <= files + 4, f'{name} leaks files'
            assert after[name][2] <= threads + 1, f'{name} leaks threads'
            assert after[name][3] <= segments + 4, f'{name} leaks shared memory'
        assert {key: seen.values('recorder/status')[key] for key in LOSSES} == lost
        run.interrupt()
        assert run.wait(10) == 0
