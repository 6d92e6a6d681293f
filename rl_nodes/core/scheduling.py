# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What goes first on a machine that has too little of something: time or memory.

SCHED_FIFO is for a process that has to answer in time: it runs before all that has no such
priority. All threads of a process get it: the middleware's, which bring the messages, and each
that may hold the interpreter's lock, as one without it that is kept from running would keep the
others waiting.
"""

import os
from pathlib import Path
import threading

THREADS = Path('/proc/self/task')
OOM_SCORE = Path('/proc/self/oom_score_adj')
EXPENDABLE = 500  # of 1000: as if it had half of the machine's memory besides its own


def run_first(priority: int, python: bool = True) -> str:
    """
    Give the threads of this process a priority of SCHED_FIFO; those to come inherit it.

    :param priority: 1 to 99.
    :param python: False leaves out the threads that run Python.
    :return: why it is refused, or ``''``.
    """
    left_out = set() if python else {thread.native_id for thread in threading.enumerate()}
    try:
        for thread in {int(path.name) for path in THREADS.iterdir()} - left_out:
            os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
    except ProcessLookupError:  # one has ended meanwhile
        return run_first(priority, python)
    except OSError as error:
        return f'priority: {error.strerror}'
    return ''


def run_as_usual() -> None:
    """Give back the priority that this thread has inherited."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def be_expendable() -> None:
    """Let the kernel end this process and its children first where memory runs out."""
    try:
        OOM_SCORE.write_text(str(max(EXPENDABLE, int(OOM_SCORE.read_text()))), encoding='ascii')
    except (OSError, ValueError):
        pass  # a kernel without this chooses by size alone


def priority_in_force() -> int:
    """Return the priority of this thread, 0 for the usual scheduling."""
    return os.sched_getparam(0).sched_priority


def why_refused(priority: int) -> str:
    """Return why this process may not have a priority, or ``''``; changes nothing."""
    refused: list[str] = []

    def attempt() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        except OSError as error:
            refused.append(error.strerror or str(error))
    thread = threading.Thread(target=attempt)  # which is all that has it, and ends
    thread.start()
    thread.join()
    return ''.join(refused)
