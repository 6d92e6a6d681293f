# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A small contract, real small networks and bundles made of them."""

from collections.abc import Callable
import hashlib

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import pytest
from rl_nodes.core.contract import Contract, Joint
from rl_nodes.core.specs import ArraySpec
from rl_nodes.inference.bundle import GoldenVector, Manifest, PolicyBundle
from rl_nodes.inference.export import PolicyExporter
import torch
from torch import nn

OBS, ACT = 5, 2


class Actor(nn.Module):
    """A squashed Gaussian actor with a normaliser; one of its buffers is unused."""

    def __init__(self, width: int = 16, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.register_buffer('mean', torch.zeros(OBS))
        self.register_buffer('variance', torch.ones(OBS))
        self.register_buffer('count', torch.zeros((), dtype=torch.int64))
        self.register_buffer('centre', torch.tensor([0.0, 0.5]))
        self.register_buffer('half_range', torch.tensor([2.0, 0.5]))
        self.trunk = nn.Sequential(nn.Linear(OBS, width), nn.ReLU(), nn.Linear(width, width),
                                   nn.ReLU())
        self.action_mean = nn.Linear(width, ACT)
        self.log_std = nn.Linear(width, ACT)

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = (observation - self.mean) / torch.sqrt(self.variance + 1e-8)
        x = self.trunk(x.clamp(-10.0, 10.0))
        mean, std = self.action_mean(x), self.log_std(x).clamp(-5.0, 2.0).exp()
        return self.centre + self.half_range * torch.tanh(mean), mean, std

    def move_normalizer(self, seed: int = 1) -> None:
        """Give the statistics other values, as training does."""
        generator = torch.Generator().manual_seed(seed)
        self.mean.copy_(torch.randn(OBS, generator=generator))
        self.variance.copy_(torch.rand(OBS, generator=generator) * 4 + 0.1)
        self.count.add_(1000)


@pytest.fixture(scope='session')
def contract() -> Contract:
    return Contract(
        robot='arm', task='reach', rate_hz=50.0, control_mode='position',
        joints=tuple(Joint(name=n, unit='rad', lower=-2.0, upper=2.0, velocity=1.0, effort=5.0)
                     for n in ('shoulder', 'elbow')),
        observation=ArraySpec(name='observation', elements=tuple(f'o{i}' for i in range(OBS)),
                              units=('1',) * OBS, low=(-3.0, -3.0, None, -3.0, -3.0),
                              high=(3.0, 3.0, None, 3.0, 3.0)),
        action=ArraySpec(name='action', elements=('shoulder', 'elbow'), units=('rad', 'rad'),
                         low=(-2.0, 0.0), high=(2.0, 1.0)),
        action_kind='position')


@pytest.fixture(scope='session')
def exported(contract: Contract) -> tuple[Actor, PolicyExporter, PolicyBundle]:
    actor = Actor()
    exporter = PolicyExporter(actor, contract, 'reach', 'sac', 'squashed_gaussian', 'abc123')
    return actor, exporter, exporter.export(actor, 3, 1200, evaluation={'return': 1.5})


@pytest.fixture(scope='session')
def bundle(exported: tuple[Actor, PolicyExporter, PolicyBundle]) -> PolicyBundle:
    return exported[2]


@pytest.fixture(scope='session')
def deterministic(contract: Contract) -> PolicyBundle:
    """Return a bundle with only an ``action`` output, made without torch."""
    return _craft(contract)


@pytest.fixture(scope='session')
def make_actor() -> type[Actor]:
    return Actor


@pytest.fixture(scope='session')
def craft() -> Callable[..., PolicyBundle]:
    return _craft


@pytest.fixture(scope='session')
def seal() -> Callable[[bytes, Manifest], PolicyBundle]:
    return _seal


def _seal(onnx_bytes: bytes, manifest: Manifest) -> PolicyBundle:
    """Return a bundle whose hash, size and digest fit: what a forger would make."""
    return PolicyBundle(onnx_bytes, msgspec.structs.replace(
        manifest, sha256=hashlib.sha256(onnx_bytes).hexdigest(), size=len(onnx_bytes)).sealed())


def _craft(contract: Contract, change: Callable[[onnx.ModelProto], None] | None = None,
           weight: np.ndarray | None = None) -> PolicyBundle:
    """Return a deterministic bundle, ``action = observation @ weight``, after ``change``."""
    weight = np.full((OBS, ACT), 0.1, np.float32) if weight is None else weight
    graph = helper.make_graph(
        [helper.make_node('MatMul', ['observation', 'weight'], ['action'])], 'policy',
        [helper.make_tensor_value_info('observation', TensorProto.FLOAT, [1, OBS])],
        [helper.make_tensor_value_info('action', TensorProto.FLOAT, [1, ACT])],
        [numpy_helper.from_array(weight, 'weight')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)
    manifest = Manifest(
        name='crafted', version=1, sha256='', size=0, opset=20, contract=contract,
        algorithm='bc', sampling='deterministic', training_commit='', training_updates=0,
        evaluation=None, data={}, created='2026-01-01T00:00:00+00:00',
        golden=(GoldenVector((1.0,) * OBS, tuple(weight.sum(0).tolist())),))
    helper.set_model_props(model, manifest.metadata())
    if change is not None:
        change(model)
    return _seal(model.SerializeToString(), manifest)
