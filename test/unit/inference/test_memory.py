# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Policies that remember: exported as they are, one memory for each robot, never corrupted."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import pytest
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError, OrderError, SpecError
from rl_nodes.core.types import RobotState
from rl_nodes.inference.actors import SingleActor
from rl_nodes.inference.bundle import GoldenVector, Manifest, PolicyBundle
from rl_nodes.inference.chunking import ChunkLayout
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.memory import LEAST_GOLDEN, StateTensor
from rl_nodes.inference.probes import random_observations
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.inference.trial import PolicyTrial
import torch
from torch import nn

OBS, ACT, HIDDEN, PERIOD = 5, 2, 8, 20_000_000
Craft = Callable[..., PolicyBundle]
Seal = Callable[[bytes, Manifest], PolicyBundle]


class Recurrent(nn.Module):
    """What remembers: ``LSTM``, ``GRU`` with any number of layers, or a ``GRUCell``."""

    def __init__(self, kind: str, layers: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.memory = (nn.GRUCell(OBS, HIDDEN) if kind == 'GRUCell'
                       else getattr(nn, kind)(OBS, HIDDEN, layers))
        self.head = nn.Linear(HIDDEN, ACT)
        shape = (1, HIDDEN) if kind == 'GRUCell' else (layers, 1, HIDDEN)
        self.layout = tuple(StateTensor(f'{name}_in', f'{name}_out', shape)
                            for name in ('hc' if kind == 'LSTM' else 'h'))

    def forward(self, observation: torch.Tensor,
                *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.kind == 'GRUCell':
            after: tuple[torch.Tensor, ...] = (self.memory(observation, *states),)
            x = after[0]
        else:
            x, hidden = self.memory(observation[None],
                                    states if self.kind == 'LSTM' else states[0])
            after, x = hidden if self.kind == 'LSTM' else (hidden,), x[0]
        return torch.tanh(self.head(x)), *after

    def answers(self, observations: np.ndarray) -> np.ndarray:
        """Return what torch answers over one episode, shape (N, A)."""
        states = [torch.zeros(tensor.shape) for tensor in self.layout]
        found = []
        with torch.no_grad():
            for row in torch.from_numpy(observations):
                action, *states = self(row[None], *states)
                found.append(action[0].numpy())
        return np.array(found)


def exporter(module: Recurrent, contract: Contract, **options: Any) -> PolicyExporter:
    return PolicyExporter(module, contract, 'recurrent', 'ppo', 'deterministic',
                          memory=module.layout, **options)


def rows(n: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, OBS)).astype(np.float32)


def state(step: int, episode: str = '1@0') -> RobotState:
    return RobotState(step * PERIOD, episode, np.zeros(2), np.zeros(2), np.zeros(2))


@pytest.fixture(scope='module')
def lstm(contract: Contract) -> PolicyBundle:
    module = Recurrent('LSTM')
    return exporter(module, contract).export(module, 1, 0)


# --- export -------------------------------------------------------------------------------------

@pytest.mark.parametrize(('kind', 'layers'), [
    ('LSTM', 1), ('LSTM', 2), ('GRU', 1), ('GRUCell', 1)])
def test_it_answers_as_torch_does_over_an_episode(contract: Contract, kind: str, layers: int,
                                                  caplog: pytest.LogCaptureFixture) -> None:
    module = Recurrent(kind, layers)
    export = exporter(module, contract)
    bundle = export.export(module, 1, 0, recorded_observations=rows(40))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    newer = export.export(module, 2, 1)
    assert 'exporting anew' not in caplog.text
    runtime = PolicyRuntime(PolicyBundle.from_parts(newer.onnx, newer.manifest_json()))
    observations = rows(100)
    for _ in range(2):
        runtime.reset()
        found = np.array([runtime.act(row).copy() for row in observations])
        np.testing.assert_allclose(found, module.answers(observations), atol=2e-5)
    again = np.array([runtime.act(row).copy() for row in observations])
    assert np.abs(again - found).max() > 1e-3, 'without a reset it remembers the episode before'
    assert bundle.manifest.memory == module.layout
    assert len(bundle.manifest.golden) >= LEAST_GOLDEN
    assert json_of(bundle)['memory'][0]['input'] == 'h_in'


def json_of(bundle: PolicyBundle) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(bundle.manifest_json())
    return found


def test_who_remembers_nothing_says_nothing_of_it(bundle: PolicyBundle) -> None:
    assert 'memory' not in json_of(bundle)
    runtime = PolicyRuntime(bundle)
    assert runtime.memory() is None
    runtime.reset()


class Turned(Recurrent):
    """Returns its new state in another shape than it takes it."""

    def forward(self, observation: torch.Tensor,
                *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        action, h = super().forward(observation, *states)
        return action, h[0]


@pytest.mark.parametrize(('module', 'layout', 'reason'), [
    (Recurrent('GRU'), (), 'returned 2 values, expected 1 or 3 tensors for'),
    (Recurrent('GRU'), (StateTensor('h_in', 'action', (1, 1, HIDDEN)),), 'names of their own'),
    (Recurrent('GRU'), (StateTensor('h', 'h', (1, 1, HIDDEN)),), 'names of their own'),
    (Turned('GRU'), (StateTensor('h_in', 'h_out', (1, 1, HIDDEN)),),
     r'h_out is torch.float32\[1, 8\], expected finite float32\[1, 1, 8\]')])
def test_a_module_that_does_not_fit_its_layout(contract: Contract, module: Recurrent,
                                               layout: tuple[StateTensor, ...],
                                               reason: str) -> None:
    class Lenient(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, observation: torch.Tensor,
                    *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
            if not states:
                return observation[:, :ACT], observation
            return self.inner(observation, *states)

    lenient = Lenient()
    with pytest.raises(BundleError, match=reason):
        PolicyExporter(lenient, contract, 'p', 'ppo', 'deterministic', memory=layout).export(
            lenient, 1, 0)


def test_swapped_states_are_noticed_by_the_golden_sequence(lstm: PolicyBundle,
                                                           seal: Seal) -> None:
    swapped = msgspec.structs.replace(lstm.manifest, memory_layout=tuple(
        StateTensor(*names, (1, 1, HIDDEN)) for names in (('h_in', 'c_out'), ('c_in', 'h_out'))))
    model = onnx.load_model_from_string(lstm.onnx)
    helper.set_model_props(model, swapped.metadata())
    with pytest.raises(BundleError, match='to golden vector 1 the model answers'):
        PolicyRuntime(seal(model.SerializeToString(), swapped))


# --- one memory for each robot -----------------------------------------------------------------

def test_robots_that_share_a_policy_share_no_memory(lstm: PolicyBundle) -> None:
    runtime = PolicyRuntime(lstm)
    alone = SingleActor(PolicyRuntime(lstm), None)
    first, second = SingleActor(runtime, None), SingleActor(runtime, None)
    other = rows(30, seed=9)
    for step, row in enumerate(rows(30)):
        second.act(other[step], state(step, '7@0'))
        np.testing.assert_array_equal(first.act(row, state(step)), alone.act(row, state(step)))


def test_asked_again_it_gives_the_same_answer_and_goes_on_as_if_asked_once(
        lstm: PolicyBundle) -> None:
    once, often = (SingleActor(PolicyRuntime(lstm), None) for _ in range(2))
    rng = np.random.default_rng(0)
    for step, row in enumerate(rows(50)):
        wanted = once.act(row, state(step)).copy()
        for _ in range(int(rng.integers(1, 4))):
            np.testing.assert_array_equal(often.act(row, state(step)), wanted)


def test_a_new_episode_and_a_new_policy_begin_with_zeros(lstm: PolicyBundle) -> None:
    runtime = PolicyRuntime(lstm)
    actor = SingleActor(runtime, None)
    row = rows(1)[0]
    answers = [[actor.act(row, state(step, episode)).tobytes() for step in range(5)]
               for episode in ('1@0', '2@100', '1@0')]
    assert answers[0] == answers[1] == answers[2]
    assert len(set(answers[0])) == 5
    successor = SingleActor(runtime, None)
    assert [successor.act(row, state(step, '1@0')).tobytes() for step in range(5)] == answers[0]


def test_states_that_never_came_change_nothing_and_late_ones_are_refused(
        lstm: PolicyBundle) -> None:
    actor, reference = (SingleActor(PolicyRuntime(lstm), None) for _ in range(2))
    observations = rows(6)
    for index, step in enumerate((0, 1, 5, 6)):
        expected = reference.act(observations[index], state(index)).copy()
        np.testing.assert_array_equal(actor.act(observations[index], state(step)), expected)
        if step == 5:
            with pytest.raises(OrderError, match='came after'):
                actor.act(observations[5], state(3))


def test_an_observation_that_is_not_finite_leaves_the_memory_alone(lstm: PolicyBundle) -> None:
    actor, reference = (SingleActor(PolicyRuntime(lstm), None) for _ in range(2))
    for step, row in enumerate(rows(10)):
        if step % 3 == 1:
            for bad in (np.nan, np.inf):
                with pytest.raises(SpecError, match='not finite'):
                    actor.act(np.full(OBS, bad, np.float32), state(2 * step))
        wanted = reference.act(row, state(step)).copy()
        np.testing.assert_array_equal(actor.act(row, state(2 * step + 1)), wanted)


# --- hostile files ------------------------------------------------------------------------------

def counting(contract: Contract, craft: Craft, seal: Seal, before: list[Any] | None = None,
             after: list[Any] | None = None, operator: str = 'Add', start: float = 1.0,
             **fields: Any) -> PolicyBundle:
    """
    Return a policy that counts its states: n_out = n_in + 1.

    :param before: shape of n_in.
    :param after: shape of n_out.
    :param fields: of the manifest that differ.
    """
    def change(model: onnx.ModelProto) -> None:
        graph, value = model.graph, helper.make_tensor_value_info
        graph.initializer.append(numpy_helper.from_array(
            np.full(1, start, np.float32), 'one'))
        graph.node.extend([helper.make_node(operator, ['n_in', 'one'], ['n']),
                           helper.make_node('Identity', ['n'], ['n_out'])])
        graph.input.append(value('n_in', TensorProto.FLOAT, before or [3]))
        graph.output.append(value('n_out', TensorProto.FLOAT, after or before or [3]))

    crafted = craft(contract, change)
    manifest = msgspec.structs.replace(crafted.manifest, **({
        'memory_layout': (StateTensor('n_in', 'n_out', (3,)),),
        'golden': crafted.manifest.golden * LEAST_GOLDEN} | fields))
    model = onnx.load_model_from_string(crafted.onnx)
    helper.set_model_props(model, manifest.metadata())
    return seal(model.SerializeToString(), manifest)


def loaded(bundle: PolicyBundle) -> PolicyRuntime:
    return PolicyRuntime(PolicyBundle.from_parts(bundle.onnx, bundle.manifest_json()))


def test_the_counter_is_accepted(contract: Contract, craft: Craft, seal: Seal) -> None:
    assert PolicyTrial().admit(counting(contract, craft, seal)).bundle.manifest.memory


@pytest.mark.parametrize(('change', 'reason'), [
    ({'before': [3], 'after': [1, 3]}, 'n_out is float32.1, 3., the manifest says float32.3.'),
    ({'before': [4], 'after': [4]}, r'n_in is float32\[4\], the manifest says float32\[3\]'),
    ({'before': ['batch'], 'after': ['batch']}, r"n_in is float32\['batch'\]"),
    ({'before': [3], 'after': ['n']}, r"n_out is float32\['n'\]"),
    ({'memory_layout': (StateTensor('n_in', 'm_out', (3,)),)}, 'expected observation, n_in -> '),
    ({'memory_layout': ()}, 'has 0 state tensors'),
    ({'memory_layout': (StateTensor('n_in', 'action', (3,)),)}, 'names of their own'),
    ({'memory_layout': (StateTensor('n_in', 'n_in', (3,)),)}, 'names of their own'),
    ({'memory_layout': (StateTensor('n_in', 'n_out', (1 << 10, 1 << 11)),)}, 'of at most'),
    ({'memory_layout': msgspec.UNSET}, 'without a memory'),
    ({'golden': (GoldenVector((1.0,) * OBS, (0.5,) * ACT),) * (LEAST_GOLDEN - 1)},
     'the first 20 steps of an episode'),
    ({'chunk_layout': ChunkLayout(2)}, 'chunks and a memory')])
def test_layouts_that_no_policy_may_have(contract: Contract, craft: Craft, seal: Seal,
                                         change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BundleError, match=reason):
        loaded(counting(contract, craft, seal, **change))


def test_a_manifest_whose_memory_is_not_the_files(contract: Contract, craft: Craft,
                                                  seal: Seal) -> None:
    bundle = counting(contract, craft, seal)
    model = onnx.load_model_from_string(bundle.onnx)
    del model.metadata_props[[entry.key for entry in model.metadata_props].index('memory')]
    with pytest.raises(BundleError, match="memory = None, the manifest says 'n_in=n_out'"):
        loaded(seal(model.SerializeToString(), bundle.manifest))


def test_a_shape_of_zero_is_no_shape(contract: Contract, craft: Craft, seal: Seal) -> None:
    text = counting(contract, craft, seal).manifest_json().replace(
        '"shape": [\n        3\n      ]', '"shape": [\n        0\n      ]')
    with pytest.raises(BundleError, match='damaged or of another version'):
        PolicyBundle.from_parts(b'', text)


def test_a_memory_that_soon_is_not_finite_is_refused_when_loaded(contract: Contract, craft: Craft,
                                                                 seal: Seal) -> None:
    bundle = counting(contract, craft, seal, operator='Add', start=1e37)
    with pytest.raises(BundleError, match='random observation: its memory would not be finite'):
        PolicyTrial().admit(bundle)


def test_a_memory_that_later_is_not_finite_is_refused_and_kept(contract: Contract, craft: Craft,
                                                               seal: Seal) -> None:
    runtime = loaded(counting(contract, craft, seal, start=1e36))  # inf after 340 states
    actor = SingleActor(runtime, None)
    observations = random_observations(contract.observation)
    refused = []
    for step in range(345):
        try:
            actor.act(observations[step % len(observations)], state(step))
        except SpecError as error:
            assert 'its memory would not be finite' in str(error)
            refused.append(step)
    assert refused == list(range(340, 345)), 'nothing is forgotten in silence'
    assert actor.act(observations[0], state(0, '2@0')) is not None
