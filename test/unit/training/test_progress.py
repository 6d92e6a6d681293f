# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
import io

import pytest
from rl_nodes.runs.tables import duration_text
from rl_nodes.training.progress import Progress, progress_text, ProgressState


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


@pytest.mark.parametrize('width', [60, 79, 140])
def test_a_narrow_terminal_shows_what_is_needed_most(width):
    wide = state(123_456, step_limit=1_000_000, train_return=-1234.5, staleness=1200)
    text = progress_text(wide, 123.0, 123.0, 900.0, width)
    assert len(text) <= width
    for part in ('step 123,456', 'evaluation success 85%', 'left'):
        assert part in text
    assert ('train' in text) == (width == 140)
    waiting = progress_text(state(5, waiting='no experience for 12 s'), 0.0, 0.0, None, width)
    assert waiting.endswith('WAITING: no experience for 12 s')


def test_the_time_left_counts_what_evaluations_take():
    """One that takes a minute must not look like training that has come to a halt."""
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, clock)
    for now, steps in ((0.0, 0), (50.0, 1000), (100.0, 1001)):
        clock.now = now
        progress.show(lambda steps=steps: state(steps))
    assert '0 steps/s' in stream.getvalue().splitlines()[-1]
    assert '14:59 left' in stream.getvalue().splitlines()[-1]
