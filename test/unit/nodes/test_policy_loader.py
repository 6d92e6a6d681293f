# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Policies are taken over in a thread: the newest of those that wait, whatever the others did."""

import threading

from rl_nodes.core.errors import BundleError
from rl_nodes.nodes.policy_loader import PolicyLoader

WAIT_S = 10.0


def test_of_those_that_wait_the_newest_counts_and_no_failure_ends_it() -> None:
    busy, go_on, done = threading.Event(), threading.Event(), threading.Event()
    taken, refused = [], []

    def take_over(policy: int) -> None:
        if policy == 0:
            busy.set()
            go_on.wait(WAIT_S)
            raise BundleError('not this one')
        if policy == 3:
            raise ZeroDivisionError
        taken.append(policy)
        done.set()

    def refuse(reason: str) -> None:
        refused.append(reason)
        if 'ZeroDivisionError' in reason:
            loader.submit(4)

    loader = PolicyLoader(take_over, refuse)
    loader.submit(0)
    assert busy.wait(WAIT_S)
    for policy in (1, 2, 3):  # returns at once, while the first is still being verified
        loader.submit(policy)
    go_on.set()
    assert done.wait(WAIT_S)
    loader.close()
    assert taken == [4]
    assert refused[0] == 'not this one'
    assert 'Traceback' in refused[1]


def test_nothing_is_taken_over_once_closed() -> None:
    taken: list[int] = []
    loader = PolicyLoader(taken.append, lambda reason: None)
    loader.close()
    loader.submit(1)
    assert not loader._thread.is_alive()
    assert not taken
