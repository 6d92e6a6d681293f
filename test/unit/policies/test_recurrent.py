# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Recurrent networks of other trainers come in with their states and answer as they do there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
import warnings

import numpy as np
import pytest
from rl_nodes.cli import main
from rl_nodes.core.errors import BundleError, RlNodesError
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.probes import random_observations
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.policies.importing import import_policy, ImportOptions
from rl_nodes.tasks import load_task
import torch
from torch import nn

Export = Callable[..., Path]
ARM = load_task('arm', 'reach')
OBS, ACT = len(ARM.contract.observation.elements), len(ARM.contract.action.elements)
PROBES = random_observations(ARM.contract.observation)


def bring(source: Path, folder: Path, **options: Any) -> PolicyRuntime:
    given = {'robot': 'arm', 'task': 'reach', 'output': str(folder / 'policy.onnx')} | options
    path, _ = import_policy(source, ImportOptions(**given))
    return PolicyRuntime(PolicyBundle.load(path))


def answers(policy: PolicyRuntime) -> np.ndarray:
    return np.array([policy.act(row).copy() for row in PROBES])


class Recurrent(nn.Module):
    """What rsl_rl exports of a recurrent actor, h_in[, c_in] in and h_out[, c_out] out."""

    def __init__(self, kind: str, layers: int = 2) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.register_buffer('mean', torch.randn(1, OBS))
        self.rnn = getattr(nn, kind)(OBS, 16, layers)
        self.mlp = nn.Sequential(nn.Linear(16, 16), nn.ELU(), nn.Linear(16, ACT), nn.Tanh())

    @property
    def states(self) -> tuple[str, ...]:
        return ('h', 'c') if isinstance(self.rnn, nn.LSTM) else ('h',)

    def forward(self, obs: torch.Tensor, h_in: torch.Tensor, c_in: torch.Tensor | None = None
                ) -> tuple[torch.Tensor, ...]:
        x = (obs - self.mean).unsqueeze(0)
        if c_in is None:
            x, h = self.rnn(x, h_in)
            return self.mlp(x.squeeze(0)), h
        x, (h, c) = self.rnn(x, (h_in, c_in))
        return self.mlp(x.squeeze(0)), h, c

    def answers(self, observations: np.ndarray) -> np.ndarray:
        """Return what torch answers over one episode."""
        states = [torch.zeros(self.rnn.num_layers, 1, 16) for _ in self.states]
        found = []
        with torch.no_grad():
            for row in torch.from_numpy(observations):
                action, *states = self(row[None], *states)
                found.append(action[0].numpy())
        return np.array(found)

    def export(self, path: Path, newer: bool, before: str = '{}_in', after: str = '{}_out',
               output: str = 'actions', batch: bool = False) -> Path:
        """Write it as rsl_rl does, by either exporter of torch."""
        inputs = ['obs', *(before.format(name) for name in self.states)]
        outputs = [output, *(after.format(name) for name in self.states)]
        example = (torch.zeros(1, OBS),
                   *(torch.zeros(self.rnn.num_layers, 1, 16) for _ in self.states))
        options: dict[str, Any] = {'external_data': False, 'verbose': False} if newer else {
            'dynamic_axes': {name: {int(name not in ('obs', output)): 'batch'}
                             for name in (*inputs, *outputs)} if batch else {}}
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            torch.onnx.export(self.eval(), example, str(path), input_names=inputs,
                              output_names=outputs, opset_version=18 if newer else 17,
                              dynamo=newer, **options)
        return path


@pytest.mark.parametrize(('kind', 'newer', 'batch'), [
    ('LSTM', False, False), ('LSTM', True, False), ('GRU', False, True), ('GRU', True, False),
    ('LSTM', False, True)])
def test_recurrent_networks_of_rsl_rl_are_known_by_their_names(
        kind: str, newer: bool, batch: bool, tmp_path: Path) -> None:
    module = Recurrent(kind)
    policy = bring(module.export(tmp_path / 'model.onnx', newer, batch=batch), tmp_path)
    assert [str(tensor) for tensor in policy.bundle.manifest.memory] == [
        f'{name}_in <- {name}_out float32[2, 1, 16]' for name in module.states]
    for _ in range(2):
        policy.reset()
        np.testing.assert_allclose(answers(policy), module.answers(PROBES), atol=1e-5)


def test_states_of_any_name_once_they_are_told(
        export: Export, tmp_path: Path, capsys: pytest.CaptureFixture,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = Recurrent('LSTM', 1)
    source = module.export(tmp_path / 'model.onnx', False, 'old_{}', 'new_{}', 'mu')
    with pytest.raises(BundleError, match='inputs obs .*, old_h .*, old_c'):
        bring(source, tmp_path)
    with pytest.raises(BundleError, match='besides obs.*states:=old_h=output'):
        bring(source, tmp_path, observation='obs')
    assert main(['import', str(source), 'robot:=arm', 'task:=reach',
                 'states:=old_h=new_h,old_c=new_c']) == 0
    assert 'old_h <- new_h float32[1, 1, 16]' in capsys.readouterr().out
    policy = PolicyRuntime(PolicyBundle.load('arm_reach.onnx'))
    np.testing.assert_allclose(answers(policy), module.answers(PROBES), atol=1e-5)
    assert main(['inspect', 'arm_reach.onnx']) == 0
    assert 'memory: old_h <- new_h float32[1, 1, 16], zeros' in capsys.readouterr().out
    bring(export(nn.Sequential(nn.Linear(OBS, ACT), nn.Tanh()), OBS, 'simple'), tmp_path,
          output='plain.onnx')
    assert main(['diff', 'arm_reach.onnx', 'plain.onnx']) == 1
    said = capsys.readouterr().out
    assert 'memory: plain.onnx has none' in said and 'arm_reach.onnx has old_h <- new_h' in said
    assert main(['diff', 'arm_reach.onnx', 'robot:=arm', 'task:=reach']) == 0


@pytest.mark.parametrize(('states', 'reason'), [
    ('h_in=h_aut,c_in=c_out', r"no output 'h_aut' \(did you mean 'h_out'\?\) for a state"),
    ('h_im=h_out,c_in=c_out', r"no input 'h_im' \(did you mean 'h_in'\?\) for a state"),
    ('h_in=h_out', 'asks for c_in'), ('h_in', 'expected pairs'), ('h_in=a=b', 'expected pairs'),
    ('h_in=h_out,h_in=c_out', 'expected pairs'),
    ('h_in=h_out,c_in=h_out', 'names of their own')])
def test_states_that_make_no_sense(states: str, reason: str, tmp_path: Path) -> None:
    source = Recurrent('LSTM', 1).export(tmp_path / 'model.onnx', False)
    with pytest.raises(RlNodesError, match=reason):
        bring(source, tmp_path, states=states, observation='obs', action='actions')


def test_states_whose_size_is_free_are_refused(tmp_path: Path) -> None:
    class Free(nn.Module):
        def forward(self, obs: torch.Tensor, m_in: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return torch.tanh(obs[:, :ACT] + m_in.sum()), torch.cat([m_in, obs[:, :1]], 1)

    source = tmp_path / 'model.onnx'
    torch.onnx.export(Free(), (torch.zeros(1, OBS), torch.zeros(1, 3)), str(source), dynamo=False,
                      input_names=['obs', 'm_in'], output_names=['actions', 'm_out'],
                      opset_version=17, dynamic_axes={'m_in': {1: 'n'}, 'm_out': {1: 'n'}})
    with pytest.raises(BundleError, match=r'm_in .*1, 1. and m_out .*1, 2. are not one state'):
        bring(source, tmp_path)
