# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Real-time priority of a process, where the system grants it and where it does not."""

import subprocess
import sys

from powers import without_real_time
import pytest
from rl_nodes.core.scheduling import (
    EXPENDABLE,
    OOM_SCORE,
    priority_in_force,
    why_refused,
)

PRIORITY = 7
PROGRAM = """
import os, threading
from rl_nodes.core.scheduling import *
priorities = []
def look():
    priorities.append(priority_in_force())
release = threading.Event()
def wait():
    release.wait()
    look()
early = threading.Thread(target=wait)
early.start()
print(run_first({priority}, python={python}))
release.set()
late = threading.Thread(target=look)
late.start()
early.join(), late.join(), look()
run_as_usual()
look()
print(priorities)
"""


def said(python: bool = True, **options: object) -> list[str]:
    """Return what the program says: a refusal, priorities of earlier, later and own thread."""
    return subprocess.run(
        [sys.executable, '-c', PROGRAM.format(priority=PRIORITY, python=python)],
        stdout=subprocess.PIPE, text=True, check=True, **options).stdout.splitlines()


def test_all_threads_get_it_and_later_ones_inherit_it() -> None:
    why = why_refused(PRIORITY)
    refusal, priorities = said()
    if why:
        assert (refusal, priorities) == (f'priority: {why}', '[0, 0, 0, 0]')
    else:
        assert (refusal, sorted(priorities)) == ('', sorted('[7, 7, 7, 0]'))


def test_threads_of_the_interpreter_may_be_left_out() -> None:
    assert said(python=False) == ['', '[0, 0, 0, 0]']


def test_a_refusal_says_why_and_changes_nothing() -> None:
    assert said(preexec_fn=without_real_time) == [
        'priority: Operation not permitted', '[0, 0, 0, 0]']


@pytest.mark.parametrize('priority', [1, 99])
def test_to_ask_changes_nothing(priority: int) -> None:
    why_refused(priority)
    assert priority_in_force() == 0


def test_who_is_expendable_ends_first_where_memory_runs_out() -> None:
    program = ('from rl_nodes.core.scheduling import *\nbe_expendable()\nbe_expendable()\n'
               'print(OOM_SCORE.read_text())')
    assert int(subprocess.check_output([sys.executable, '-c', program])) >= EXPENDABLE
    assert int(OOM_SCORE.read_text()) < EXPENDABLE
