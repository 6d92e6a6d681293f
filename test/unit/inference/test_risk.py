# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Risk networks as bundles, and answers that are not waited for too long."""

import threading
import time

import msgspec
import numpy as np
import pytest
from rl_nodes.core.errors import BundleError, ContractError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.risk import Bounded, load_risk, risk_contract
from rl_nodes.tasks import load_task
import torch

CONTRACT = load_task('arm', 'reach').contract


class Constant(torch.nn.Module):

    def forward(self, observation):
        return torch.sigmoid(observation.sum(1, keepdim=True))


def test_a_risk_network_belongs_to_one_contract_and_one_guard(tmp_path) -> None:
    wanted = risk_contract(CONTRACT)
    assert wanted.observation.elements == (
        *CONTRACT.observation.elements, *(f'action/{name}' for name in
                                          CONTRACT.action.elements))
    assert wanted.action.elements == ('risk',)
    assert wanted.fingerprint() != CONTRACT.fingerprint()
    bundle = PolicyExporter(Constant(), wanted, 'risk', 'risk', 'deterministic').export(
        Constant(), 1, 0)
    path = bundle.save(tmp_path / 'a.risk.onnx')
    digest = bundle.manifest.sha256
    assert load_risk(path, digest, CONTRACT).manifest == bundle.manifest
    with pytest.raises(BundleError, match='was calibrated with 0000'):
        load_risk(path, '0' * 64, CONTRACT)
    with pytest.raises(ContractError, match=r'a\.risk\.onnx'):
        load_risk(path, digest, load_task('panda', 'reach_panda').contract)


def test_actions_that_are_counted_have_no_risk_network() -> None:
    counted = msgspec.structs.replace(CONTRACT, action=ArraySpec(
        'action', ('choice',), ('1',), (0.0,), (3.0,), 'int64'))
    with pytest.raises(BundleError, match='actions are counted'):
        risk_contract(counted)


def test_an_answer_is_waited_for_no_longer_than_its_bound() -> None:
    go, entered = threading.Event(), threading.Event()

    def slow(asked: np.ndarray) -> np.ndarray:
        if asked[0] < 0:
            raise ValueError('negative')
        if asked[0] > 0:
            entered.set()
            go.wait(20)
        return asked * 2

    bounded = Bounded(slow, 0.02)
    assert Bounded(slow, 5.0)(np.zeros(2)).tolist() == [0.0, 0.0]
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match='no answer within 20 ms'):
        bounded(np.ones(2))
    assert time.monotonic() - begun < 5.0
    entered.wait(20)
    with pytest.raises(TimeoutError, match='still being computed'):
        bounded(np.zeros(2))
    go.set()
    deadline = time.monotonic() + 20
    while True:  # the late answer is thrown away, never given for another question
        try:
            assert bounded(np.zeros(2)).tolist() == [0.0, 0.0]
            break
        except TimeoutError:
            assert time.monotonic() < deadline
    patient = Bounded(slow, 5.0)
    with pytest.raises(ValueError, match='negative'):
        patient(np.full(2, -1.0))
    assert patient(np.zeros(2)).tolist() == [0.0, 0.0], 'it goes on after an error'
    patient.close()
