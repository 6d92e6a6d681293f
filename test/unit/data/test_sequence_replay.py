# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Windows of stored episodes: what follows what, whatever came in between; what is padding."""

import numpy as np
import pytest
from rl_nodes.core.errors import TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.sequence_replay import SequenceReplay
import torch


def rows(*steps, ended=()):
    """Return transitions (episode, step); what is observed says which one it is."""
    episode, step = np.array(steps).T
    seen = (100.0 * episode + step)[:, None].astype(np.float32)
    no, last = np.zeros(len(seen), bool), np.array([pair in ended for pair in steps])
    return TransitionBatch(seen, seen, seen, seen[:, 0], seen + 1, last, no, no, no, episode,
                           episode, step)


def drawn(replay, burn_in=2, length=3, count=200):
    """Return, by first observation, (burn-in, window), each without what is padding."""
    windows = replay.windows(count, burn_in, length, torch.Generator().manual_seed(0))
    seen = windows.sample.observation.view(length, count)
    following = windows.sample.next_observation.view(length, count)
    found = {}
    for i in range(count):
        there, known = windows.there[:, i], windows.known[:, i]
        steps = seen[there, i].tolist()
        assert following[there, i].tolist() == [value + 1 for value in steps]
        assert there.tolist() == sorted(there.tolist(), reverse=True), 'padding comes last'
        assert known.tolist() == sorted(known.tolist()), 'and first before a window'
        found[steps[0]] = windows.before[known, i, 0].tolist(), steps
    return found


def filled(capacity, *batches):
    replay = SequenceReplay(capacity, 1, 1)
    for batch in batches:
        replay.add(batch)
    return replay


def test_episodes_of_several_robots_are_told_apart():
    replay = filled(50, rows((0, 0), (1, 0)), rows((0, 1), (1, 1), (0, 2)),
                    rows((0, 3), (1, 2), ended=[(1, 2)]), rows((1, 3), (2, 0)))
    assert drawn(replay) == {
        0: ([], [0, 1, 2]), 1: ([0], [1, 2, 3]), 2: ([0, 1], [2, 3]), 3: ([1, 2], [3]),
        100: ([], [100, 101, 102]), 101: ([100], [101, 102]), 102: ([100, 101], [102]),
        103: ([], [103]), 200: ([], [200])}


def test_a_step_that_is_missing_ends_a_window():
    bad = rows((0, 2))
    bad.reward[0] = np.nan
    replay = filled(50, rows((0, 0), (0, 1)), bad, rows((0, 3), (0, 4)))
    assert replay.refused == 1
    assert drawn(replay) == {0: ([], [0, 1]), 1: ([0], [1]), 3: ([], [3, 4]), 4: ([3], [4])}


def test_what_is_overwritten_is_in_no_window():
    replay = filled(4, *(rows((0, step)) for step in range(7)))
    assert drawn(replay) == {3: ([], [3, 4, 5]), 4: ([3], [4, 5, 6]), 5: ([3, 4], [5, 6]),
                             6: ([4, 5], [6])}
    replay = filled(3, rows((0, 0)), rows((1, 0), (1, 1), (1, 2)), rows((0, 1)))
    assert drawn(replay) == {101: ([], [101, 102]), 102: ([101], [102]), 1: ([], [1])}
    replay = filled(3, rows((0, 0)), rows(*((1, step) for step in range(6))))
    assert drawn(replay)[103] == ([], [103, 104, 105])


def test_without_a_burn_in_and_with_windows_of_one_step():
    replay = filled(9, rows((0, 0), (0, 1)))
    assert drawn(replay, 0, 1) == {0: ([], [0]), 1: ([], [1])}


def test_a_restored_one_goes_on_like_the_first():
    first = filled(6, rows((0, 0), (1, 0), (0, 1), (1, 1)))
    second = SequenceReplay(6, 1, 1)
    second.load_state_dict({name: torch.as_tensor(value).clone()
                            for name, value in first.state_dict().items()})
    for replay in (first, second):
        replay.add(rows((0, 2), (1, 2), (0, 3)))
    assert drawn(first) == drawn(second)
    assert drawn(first)[1] == ([], [1, 2, 3])


def test_nothing_is_drawn_from_nothing():
    with pytest.raises(TrainingError, match='no transition'):
        SequenceReplay(6, 1, 1).windows(1, 1, 1, torch.Generator())
