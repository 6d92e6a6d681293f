# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The trainer's view of the graph: nothing lost, the age of the acting policy known."""

import numpy as np
from rl_nodes.core.types import TransitionBatch
from rl_nodes.nodes.trainer import GraphSource


def batch(count: int, version: int) -> TransitionBatch:
    vector, flag = np.zeros((count, 2), np.float32), np.zeros(count, bool)
    number = np.arange(count)
    return TransitionBatch(vector, vector, vector, number.astype(np.float32), vector, flag, flag,
                           flag, flag, np.full(count, version), number, number)


def test_batches_come_out_whole_and_in_order() -> None:
    source = GraphSource(lambda bundle: None, lambda difficulty: None)
    assert source.collect() is None
    source.add(batch(3, 1))
    source.add(batch(2, 1))
    np.testing.assert_array_equal(source.collect().reward, [0, 1, 2, 0, 1])
    assert source.collect() is None


def test_updates_in_use_follow_the_newest_version_seen_acting() -> None:
    published = []
    source = GraphSource(published.append, lambda difficulty: None)
    source.publish('a', 1, 100)
    assert source.policy_updates_in_use() == 100, 'nothing has acted, nothing is stale'
    source.publish('b', 2, 300)
    assert source.policy_updates_in_use() == 100
    source.add(batch(1, 1))
    source.collect()
    assert source.policy_updates_in_use() == 100
    source.add(batch(1, 2))
    source.add(batch(1, 1))
    source.collect()
    assert source.policy_updates_in_use() == 300
    source.add(batch(1, 1))
    source.collect()
    assert source.policy_updates_in_use() == 300, 'an old straggler does not make it older'
    source.add(batch(1, 77))
    source.collect()
    assert source.policy_updates_in_use() == 300, 'a version of somebody else counts for nothing'
    assert published == ['a', 'b']
