# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Exported policies answer as torch does, whatever training has changed."""

import logging
import time

import numpy as np
import onnx
import pytest
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError, SpecError
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.runtime import PolicyRuntime
import torch
from torch import nn

OBS, ACT = 5, 2
Exported = tuple[nn.Module, PolicyExporter, PolicyBundle]


def assert_same_answers(actor: nn.Module, bundle: PolicyBundle, n: int = 200) -> None:
    runtime = PolicyRuntime(bundle)
    rows = 3 * np.random.default_rng(5).standard_normal((n, OBS)).astype(np.float32)
    with torch.no_grad():
        expected = actor(torch.from_numpy(rows))[0].numpy()
    for row, wanted in zip(rows, expected):
        np.testing.assert_allclose(runtime.act(row), wanted, atol=2e-5)


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what this package logged; torch traces itself."""
    return [r.getMessage() for r in caplog.records if r.name.startswith('rl_nodes')]


def test_first_export(exported: Exported) -> None:
    actor, _, bundle = exported
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.training_updates) == ('reach', 3, 1200)
    assert manifest.evaluation == {'return': 1.5} and len(manifest.golden) == 4
    assert_same_answers(actor, bundle)


def test_refresh_follows_weights_and_normalizer(contract: Contract, exported: Exported,
                                                make_actor: type, caplog) -> None:
    exporter = exported[1]
    actor = make_actor(seed=4)
    actor.move_normalizer()
    recorded = np.random.default_rng(1).standard_normal((1000, OBS)).astype(np.float32)
    with caplog.at_level(logging.WARNING):
        start = time.perf_counter()
        bundle = exporter.export(actor, 4, 2000, recorded_observations=recorded)
        took_s = time.perf_counter() - start
    assert not ours(caplog)  # the template served
    assert took_s < 1.0  # a new template takes several times as long
    assert_same_answers(actor, bundle)
    assert bundle.manifest.version == 4 and bundle.manifest.evaluation is None
    rows = {row.tobytes() for row in recorded}
    golden = [np.array(v.observation, np.float32).tobytes() in rows
              for v in bundle.manifest.golden]
    assert sum(golden) == 2


def test_constant_observation_element(exported: Exported, make_actor: type) -> None:
    # A variance of zero leaves only the epsilon, which optimisers like to drop.
    actor = make_actor(seed=2)
    actor.variance[1] = 0.0
    bundle = exported[1].export(actor, 5, 1)
    runtime = PolicyRuntime(bundle)
    row = np.zeros(OBS, np.float32)
    with torch.no_grad():
        expected = actor(torch.zeros(1, OBS))[0][0].numpy()
    np.testing.assert_allclose(runtime.act(row), expected, atol=1e-5)


def test_other_width_gets_a_new_template(contract: Contract, exported: Exported,
                                         make_actor: type, caplog) -> None:
    exporter = exported[1]
    actor = make_actor(width=8)
    with caplog.at_level(logging.WARNING):
        bundle = exporter.export(actor, 6, 1)
    assert 'exporting anew' in caplog.text
    assert_same_answers(actor, bundle)


class Various(nn.Module):
    """Split heads, tied weights, clamps between integers, a buffer outside the state_dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(OBS, OBS)
        self.second = nn.Linear(OBS, OBS)
        self.second.weight = self.first.weight
        self.heads = nn.Linear(OBS, 2 * ACT)
        self.register_buffer('shift', torch.zeros(OBS), persistent=False)
        self.register_buffer('bounds', torch.tensor([[0.0, 0.5], [2.0, 0.5]]))

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = torch.relu(self.first((observation - self.shift).clamp(-10, 10)))
        mean, log_std = self.heads(torch.tanh(self.second(x))).chunk(2, dim=-1)
        centre, half = self.bounds
        return centre + half * torch.tanh(mean), mean, log_std.clamp(-20, 2).exp()


def test_various_modules_are_refreshed_not_exported_anew(contract: Contract, caplog) -> None:
    module = Various()
    exporter = PolicyExporter(module, contract, 'p', 'sac', 'squashed_gaussian')
    assert_same_answers(module, exporter.export(module, 1, 1))
    with torch.no_grad():
        for tensor in (*module.parameters(), module.shift):
            tensor.add_(0.1 * torch.randn_like(tensor))
    with caplog.at_level(logging.WARNING):
        bundle = exporter.export(module, 2, 2)
    assert not ours(caplog)
    assert_same_answers(module, bundle)


class Hidden(nn.Module):
    """Keeps a value that changes where no refresh can find it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(OBS, ACT)
        self.offset = 0.0

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.linear(observation) + self.offset


def test_hidden_state_is_caught_by_parity(contract: Contract, caplog) -> None:
    module = Hidden()
    exporter = PolicyExporter(module, contract, 'bc', 'bc', 'deterministic')
    exporter.export(module, 1, 1)
    module.offset = 0.25
    with caplog.at_level(logging.WARNING):
        bundle = exporter.export(module, 2, 2)
    assert 'differ in action' in caplog.text
    row = np.zeros(OBS, np.float32)
    np.testing.assert_allclose(PolicyRuntime(bundle).act(row),
                               module.linear.bias.detach().numpy() + 0.25, atol=1e-6)


def test_every_used_parameter_and_buffer_is_named(bundle: PolicyBundle, make_actor: type) -> None:
    graph = onnx.load_model_from_string(bundle.onnx).graph
    names = {tensor.name for tensor in graph.initializer}
    assert set(make_actor().state_dict()) - names == {'count'}


def test_module_keeps_its_training_mode(exported: Exported, make_actor: type) -> None:
    actor = make_actor()
    actor.train()
    actor.trunk[1].eval()
    exported[1].export(actor, 7, 1)
    assert actor.training and actor.trunk[0].training and not actor.trunk[1].training
    assert all(p.requires_grad for p in actor.parameters())


@pytest.mark.parametrize('name', ['trunk.0.weight', 'log_std.bias', 'variance'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite(exported: Exported, make_actor: type, name: str,
                                     value: float) -> None:
    actor = make_actor()
    with torch.no_grad():
        actor.state_dict()[name].view(-1)[0] = value
    with pytest.raises(BundleError, match=f'not finite: {name}; the training has diverged'):
        exported[1].export(actor, 8, 1)


def test_finite_weights_that_overflow(exported: Exported, make_actor: type) -> None:
    actor = make_actor()
    with torch.no_grad():
        for layer in (actor.trunk[0], actor.trunk[2], actor.action_mean):
            layer.weight.fill_(1e20)
    with pytest.raises(BundleError, match='action_mean is not finite'):
        exported[1].export(actor, 8, 1)


class Returns(nn.Module):
    """Returns what it is told to."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear = nn.Linear(OBS, ACT)
        self.kind = kind

    def forward(self, observation: torch.Tensor) -> object:
        action = self.linear(observation)
        return {'one': action, 'pair': (action, action), 'wide': torch.cat([action, action], 1),
                'double': action.double(), 'unscaled': (action, action + 1, action.exp()),
                'twice': (action, action, action.exp())}[self.kind]


@pytest.mark.parametrize(('kind', 'sampling', 'reason'), [
    ('one', 'squashed_gaussian', 'returned 1 values, expected 3'),
    ('pair', 'deterministic', 'returned 2 values, expected 1 or 3'),
    ('wide', 'deterministic', r'action is float32\[64, 4\], expected float32\[64, 2\]'),
    ('double', 'deterministic', r'action is float64'),
    ('unscaled', 'squashed_gaussian', 'not tanh.action_mean. scaled'),
    ('twice', 'squashed_gaussian', 'must not return one tensor twice'),
])
def test_wrong_forward(contract: Contract, kind: str, sampling, reason: str) -> None:
    module = Returns(kind)
    with pytest.raises(BundleError, match=reason):
        PolicyExporter(module, contract, 'p', 'sac', sampling).export(module, 1, 1)


@pytest.mark.parametrize('recorded', [
    np.zeros((3, OBS + 1)), np.zeros(OBS), np.full((2, OBS), np.nan)])
def test_wrong_recorded_observations(exported: Exported, recorded: np.ndarray) -> None:
    with pytest.raises(SpecError, match='recorded observations are'):
        exported[1].export(exported[0], 9, 1, recorded_observations=recorded)


def test_unacceptable_name(contract: Contract) -> None:
    module = Hidden()
    exporter = PolicyExporter(module, contract, '../p', 'bc', 'deterministic')
    with pytest.raises(BundleError, match='has the name'):
        exporter.export(module, 1, 1)


def test_export_is_quiet(contract: Contract, capfd) -> None:
    module = Hidden()
    PolicyExporter(module, contract, 'p', 'bc', 'deterministic').export(module, 1, 1)
    assert capfd.readouterr() == ('', '')
