# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Which policy a server goes back to, and which it does not accept again."""

from types import SimpleNamespace
from typing import Any

import pytest
from rl_nodes.core.errors import BundleError
from rl_nodes.inference.succession import KEPT, Succession


def policy(version: int, name: str = 'p') -> Any:
    manifest = SimpleNamespace(name=name, version=version)
    return SimpleNamespace(bundle=SimpleNamespace(label=f'{name}@{version}', manifest=manifest))


def test_the_way_back_goes_one_step_at_a_time_and_ends() -> None:
    line, policies = Succession(), [policy(version) for version in range(3)]
    with pytest.raises(BundleError, match='no policy is running'):
        line.back('why')
    for each in policies:
        line.follow(each, proven=True)
    assert line.previous == ('p@0', 'p@1')
    assert line.back('why') == (policies[2], policies[1])
    assert line.fell_back
    assert line.back('why') == (policies[1], policies[0])
    with pytest.raises(BundleError, match='p@0 is running and no policy came before it'):
        line.back('why')
    assert line.current is policies[0]


def test_a_policy_that_was_taken_back_comes_only_in_a_newer_version() -> None:
    line = Succession()
    for version in (3, 7):
        line.follow(policy(version), proven=True)
    line.back('too bold')
    for version in (3, 6, 7):
        with pytest.raises(BundleError, match=r'p@7 was taken back \(too bold\); .* after 7'):
            line.require_new(policy(version).bundle)
    line.require_new(policy(8).bundle)
    line.require_new(policy(1, name='other').bundle)
    line.follow(policy(8), proven=True)
    assert not line.fell_back


def test_a_policy_that_was_replaced_unproven_is_nothing_to_go_back_to() -> None:
    line = Succession()
    line.follow(policy(1), proven=True)
    line.follow(policy(2), proven=False)
    line.follow(policy(3), proven=False)
    assert line.previous == ('p@1',)
    line.prove()
    line.follow(policy(4), proven=False)
    assert line.previous == ('p@1', 'p@3')


def test_a_few_are_kept() -> None:
    line = Succession()
    for version in range(2 * KEPT):
        line.follow(policy(version), proven=True)
    assert len(line.previous) == KEPT
    assert line.previous[-1] == f'p@{2 * KEPT - 2}'
