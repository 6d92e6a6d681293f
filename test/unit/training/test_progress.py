# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
import io

from rl_nodes.runs.tables import duration_text
from rl_nodes.training.progress import Progress, ProgressState


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def state(steps, **others):
    return ProgressState(**({
        'steps': steps, 'step_limit': 10_000, 'elapsed_s': steps / 100, 'time_limit_s': None,
        'episodes': 12, 'train_success': 0.5, 'train_return': -3.25, 'evaluation': 'success 85%',
        'updates': steps // 2, 'staleness': 0} | others))


def test_into_a_pipe_one_line_every_five_seconds():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, clock)
    for step in range(0, 1200):
        clock.now = step / 100
        progress.show(lambda step=step: state(step))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert 'step 1,000' in lines[-1]
    assert '100 steps/s' in lines[-1]
    assert '50 updates/s' in lines[-1]
    assert 'train success 50% return -3.2' in lines[-1]
    assert 'evaluation success 85%' in lines[-1]
    assert '1:30 left' in lines[-1]


def test_on_a_terminal_the_line_is_redrawn_and_left_clean():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    clock, stream = Clock(), Terminal()
    progress = Progress(stream, clock)
    progress.show(lambda: state(1))
    clock.now = 1.0
    progress.show(lambda: state(2))
    progress.say('hello')
    progress.close()
    text = stream.getvalue()
    assert text.count('\r') == 4
    assert text.endswith('hello\n')


def test_waiting_and_staleness_are_shown():
    stream = io.StringIO()
    Progress(stream).show(lambda: state(5, staleness=40, waiting='no experience for 12 s'))
    assert 'policy 40 updates old' in stream.getvalue()
    assert 'WAITING: no experience for 12 s' in stream.getvalue()


def test_durations():
    assert [duration_text(s) for s in (0, 61, 3723)] == ['0:00', '1:01', '1:02:03']
