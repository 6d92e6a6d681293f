# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The contract: same robot and task, same fingerprint; any difference is named."""

import msgspec
import pytest
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ContractError
from rl_nodes.tasks import load_task


@pytest.fixture(scope='module')
def contract() -> Contract:
    return load_task('arm', 'reach').contract


def test_fingerprint_survives_json_and_a_second_load(contract: Contract) -> None:
    assert Contract.from_json(contract.to_json()) == contract
    assert load_task('arm', 'reach').contract.fingerprint() == contract.fingerprint()
    assert len(contract.fingerprint()) == 64


@pytest.mark.parametrize(('change', 'key'), [
    ({'rate_hz': 100.0}, 'rate_hz'),
    ({'action_kind': 'joint_velocity'}, 'action_kind'),
    ({'kinematics': 'other'}, 'kinematics'),
])
def test_every_difference_changes_the_fingerprint_and_is_named(
        contract: Contract, change: dict, key: str) -> None:
    other = msgspec.structs.replace(contract, **change)
    assert other.fingerprint() != contract.fingerprint()
    with pytest.raises(ContractError) as caught:
        contract.require(other, 'robot arm', 'policy p@1')
    assert key in str(caught.value)
    assert str(change[key]) in str(caught.value)
    assert 'policy p@1' in str(caught.value)


def test_changed_joint_limit_is_named_with_its_place(contract: Contract) -> None:
    joints = list(contract.joints)
    joints[2] = msgspec.structs.replace(joints[2], velocity=0.5)
    with pytest.raises(ContractError, match=r'joints\[2\].velocity: .*0.5'):
        contract.require(msgspec.structs.replace(contract, joints=tuple(joints)), 'a', 'b')


def test_equal_contracts_pass_and_garbage_is_refused(contract: Contract) -> None:
    contract.require(Contract.from_json(contract.to_json()), 'a', 'b')
    with pytest.raises(ContractError, match='not a contract'):
        Contract.from_json('{"robot": 1}')
