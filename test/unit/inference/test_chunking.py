# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Chunks of actions: which row when, blends, delays, expiry, faults, and real policies."""

from collections.abc import Callable, Iterator
import threading
import time

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import pytest
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError, SpecError
from rl_nodes.inference.bundle import GoldenVector, Manifest, PolicyBundle
from rl_nodes.inference.chunking import Blend, ChunkLayout, ChunkPlayer, ChunkQueue, MOST_CHUNKS
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.runtime import PolicyRuntime
import torch
from torch import nn

PERIOD = 20_000_000
REPLACE = Blend('crossfade', fade_steps=0)
OBS, ACT = 5, 2
Seal = Callable[[bytes, Manifest], PolicyBundle]


def queue(horizon: int = 5, spacing: int = 1, blend: Blend = REPLACE) -> ChunkQueue:
    return ChunkQueue(ChunkLayout(horizon, spacing), 1, PERIOD, blend)


def rows(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def played(chunks: ChunkQueue, *periods: int) -> list[float | None]:
    """Return the action of each period, rounded to what float32 knows for sure."""
    found = (chunks.action(period * PERIOD) for period in periods)
    return [None if action is None else round(float(action[0]), 6) for action in found]


# --- the queue ------------------------------------------------------------------------------

def test_each_state_finds_its_row_and_none_is_used_after_its_time() -> None:
    chunks = queue(3)
    chunks.add(rows(10, 11, 12), 4 * PERIOD)
    assert played(chunks, 4, 5, 6, 7, 8) == [10, 11, 12, None, None]
    assert len(chunks) == 0


def test_a_chunk_says_nothing_of_the_time_before_it() -> None:
    chunks = queue(3)
    chunks.add(rows(10, 11, 12), 4 * PERIOD)
    assert played(chunks, 3, 4) == [None, 10]


def test_rows_that_lie_in_the_past_are_skipped() -> None:
    chunks = queue(5)
    chunks.add(rows(0, 1, 2, 3, 4), 0)
    assert played(chunks, 0, 1, 2) == [0, 1, 2]
    chunks.add(rows(100, 101, 102, 103, 104), 0)  # of the first state, three periods late
    assert played(chunks, 3, 4, 5) == [103, 104, None]


def test_a_state_a_little_early_or_late_is_still_that_of_its_period() -> None:
    chunks = queue(3)
    chunks.add(rows(10, 11, 12), 0)
    for stamp in (0.6, 1.4):
        np.testing.assert_array_equal(chunks.action(round(stamp * PERIOD)), [11])
    np.testing.assert_array_equal(chunks.action(round(2.4 * PERIOD)), [12])
    assert chunks.action(round(2.6 * PERIOD)) is None


def test_rows_further_apart_are_interpolated() -> None:
    chunks = queue(3, spacing=4)
    chunks.add(rows(0, 4, 0), 0)
    assert played(chunks, *range(10)) == [0, 1, 2, 3, 4, 3, 2, 1, 0, None]


def test_a_crossfade_takes_over_in_equal_steps() -> None:
    chunks = queue(9, blend=Blend('crossfade', fade_steps=3))
    chunks.add(rows(*[0] * 9), 0)
    assert played(chunks, 0, 1) == [0, 0]
    chunks.add(rows(*[4] * 9), 1 * PERIOD)  # here at period 2: a quarter, a half ...
    assert played(chunks, 2, 3, 4, 5, 6) == [1, 2, 3, 4, 4]
    assert len(chunks) == 1


def test_a_crossfade_that_is_interrupted_goes_on_from_where_it_is() -> None:
    chunks = queue(9, blend=Blend('crossfade', fade_steps=1))
    chunks.add(rows(*[0] * 9), 0)
    assert played(chunks, 0) == [0]
    chunks.add(rows(*[4] * 9), 0)
    assert played(chunks, 1) == [2]
    chunks.add(rows(*[8] * 9), 1)
    # the second has taken over, the third has half of the say
    assert played(chunks, 2, 3) == [6, 8]


def test_what_has_ended_does_not_fade() -> None:
    chunks = queue(3, blend=Blend('crossfade', fade_steps=9))
    chunks.add(rows(0, 0, 0), 0)
    assert played(chunks, 0) == [0]
    chunks.add(rows(1, 1, 1), 2 * PERIOD)
    assert played(chunks, 2, 3) == [0.1, 1]


def test_the_ensemble_weighs_exponentially_the_oldest_most() -> None:
    chunks = queue(5, blend=Blend('ensemble', decay=0.5))
    chunks.add(rows(1, 1, 1, 1, 1), 0)
    chunks.add(rows(2, 2, 2, 2, 2), 1 * PERIOD)
    chunks.add(rows(4, 4, 4, 4, 4), 3 * PERIOD)
    old, young, last = 1.0, np.exp(-0.5), np.exp(-1.5)
    expected = (old * 1 + young * 2 + last * 4) / (old + young + last)
    np.testing.assert_allclose(chunks.action(3 * PERIOD), [expected], rtol=1e-6)
    # the oldest has ended: weights count from the next one
    np.testing.assert_allclose(chunks.action(5 * PERIOD),
                               [(2 + np.exp(-1.0) * 4) / (1 + np.exp(-1.0))], rtol=1e-6)


def test_the_ensemble_is_that_of_act_once_a_chunk_comes_every_period() -> None:
    """The arithmetic of the paper's own code: exp(-k · i), i = 0 the oldest, over the sum."""
    horizon, decay, rng = 4, 0.01, np.random.default_rng(0)
    chunks = queue(horizon, blend=Blend('ensemble', decay=decay))
    known = rng.standard_normal((12, horizon, 1)).astype(np.float32)
    for step in range(12):
        chunks.add(known[step], step * PERIOD)
        said = np.array([known[j, step - j] for j in range(max(0, step - horizon + 1), step + 1)])
        weights = np.exp(-decay * np.arange(len(said)))
        np.testing.assert_allclose(chunks.action(step * PERIOD),
                                   (said * (weights / weights.sum())[:, None]).sum(0), rtol=1e-5)


def test_blends_of_what_agrees_are_what_is_agreed_on() -> None:
    for blend in (Blend('ensemble', decay=0.3), Blend('crossfade', fade_steps=4), REPLACE):
        chunks = queue(8, blend=blend)
        for step in range(30):
            chunks.add(rows(*np.sin(0.2 * np.arange(step, step + 8))), step * PERIOD)
            assert played(chunks, step) == [round(float(np.float32(np.sin(0.2 * step))), 6)]


@pytest.mark.parametrize(('chunk', 'message'), [
    (np.zeros((4, 1)), r'shape \[4, 1\] came, expected \[5, 1\]'),
    (np.zeros(5), r'shape \[5\] came'),
    (np.zeros((5, 2)), r'shape \[5, 2\]'),
    (rows(0, 0, np.nan, 0, 0), 'action 0 = nan in row 2'),
    (rows(0, 0, 0, 0, -np.inf), 'action 0 = -inf in row 4')])
def test_a_wrong_chunk_is_refused_and_those_before_it_go_on(chunk: np.ndarray,
                                                            message: str) -> None:
    chunks = queue(5)
    chunks.add(rows(0, 1, 2, 3, 4), 0)
    with pytest.raises(SpecError, match=message):
        chunks.add(chunk, PERIOD)
    assert played(chunks, 1, 2) == [1, 2]


def test_memory_is_bounded_and_the_callers_is_its_own() -> None:
    chunks = queue(500)
    mine = rows(*range(500))
    for step in range(2 * MOST_CHUNKS):
        chunks.add(mine, step)
    mine[:] = -1
    assert len(chunks) == MOST_CHUNKS
    assert played(chunks, 1) == [1]


@pytest.mark.parametrize('layout', [{'horizon': 1}, {'horizon': 5, 'spacing': 0},
                                    {'horizon': 10**9}])
def test_layouts_out_of_range_are_refused(layout: dict) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(layout, ChunkLayout)


# --- the player -----------------------------------------------------------------------------

class Model:
    """Answers when it is told to: row i of the chunk is the observation plus i."""

    def __init__(self, horizon: int = 5) -> None:
        self.horizon = horizon
        self.asked: list[float] = []
        self.may = threading.Semaphore(0)
        self.fails: list[Exception] = []

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        self.asked.append(float(observation[0]))
        self.may.acquire()
        if self.fails:
            raise self.fails.pop()
        return rows(*(observation[0] + np.arange(self.horizon)))


class Stage:
    """A player, and states of its robot one period after the other."""

    def __init__(self, model: Model) -> None:
        self.model, self.queue = model, queue(model.horizon)
        self.player = ChunkPlayer(model, self.queue)

    def act(self, period: int, episode: str = '1@0') -> float | None:
        action = self.player.act(np.array([period], np.float32), period * PERIOD, episode)
        return None if action is None else float(action[0])

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, 'the player does not go on'
            threading.Event().wait(0.001)

    def asked(self, *periods: int) -> None:
        """Wait until the model has been asked for these observations."""
        self.until(lambda: self.model.asked == list(periods))

    def answer(self) -> None:
        """Let the model answer and wait until its answer is there."""
        before, refused = len(self.queue), self.player.refused
        self.model.may.release()
        self.until(lambda: len(self.queue) > before or self.player.refused > refused)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(Model())
    yield stage
    stage.player.close()
    stage.model.may.release(100)


def test_inference_overlaps_with_what_it_answers_for(stage: Stage) -> None:
    assert [stage.act(0)] == [None]
    stage.asked(0)
    assert [stage.act(1), stage.act(2)] == [None, None]  # act() has not waited
    stage.answer()
    stage.asked(0, 2)  # the newest observation, not that of period 1
    assert [stage.act(3), stage.act(4)] == [3, 4]
    stage.answer()
    assert [stage.act(5), stage.act(6)] == [5, 6]


def test_an_inference_that_does_not_end_is_silence_with_its_reason(stage: Stage) -> None:
    stage.act(0)
    stage.asked(0)
    stage.answer()
    assert [stage.act(period) for period in range(1, 8)] == [1, 2, 3, 4, None, None, None]
    stage.until(lambda: len(stage.model.asked) == 2)
    assert 'no chunk reaches as far as this state' in stage.player.silence()
    assert 'an inference has been running for 0.' in stage.player.silence()


def test_a_new_episode_starts_with_nothing_of_the_old_one(stage: Stage) -> None:
    stage.act(0)
    stage.asked(0)
    stage.answer()
    assert stage.act(1) == 1
    stage.until(lambda: len(stage.model.asked) == 2)
    assert stage.act(2, '2@40000000') is None
    stage.model.may.release()  # of the old episode: unheard
    stage.until(lambda: len(stage.model.asked) == 3)
    assert len(stage.queue) == 0
    stage.answer()
    assert stage.act(3, '2@40000000') == 3


def test_a_state_that_comes_again_is_not_inferred_again(stage: Stage) -> None:
    stage.act(0)
    stage.asked(0)
    stage.answer()
    assert stage.act(0) == 0
    assert stage.model.asked == [0]


def test_a_refused_chunk_is_counted_and_those_before_it_go_on(stage: Stage) -> None:
    stage.act(0)
    stage.asked(0)
    stage.answer()
    stage.model.fails = [BundleError('out of order')]
    assert stage.act(1) == 1
    stage.asked(0, 1)
    stage.answer()
    assert stage.act(2) == 2
    assert stage.player.refused == 1
    assert 'the last refused chunk: out of order' in stage.player.silence()


def test_the_end_waits_for_an_inference_that_is_running(stage: Stage) -> None:
    stage.act(0)
    stage.asked(0)
    stage.player.close()
    assert not stage.player.join(0.001)  # does not wait for ever
    stage.model.may.release()
    assert stage.player.join(10.0)
    assert stage.model.asked == [0]


def test_what_nobody_expects_is_raised_where_it_is_seen(stage: Stage) -> None:
    stage.model.fails = [ZeroDivisionError('a defect')]
    stage.act(0)
    stage.model.may.release()
    with pytest.raises(ZeroDivisionError, match='a defect'):
        stage.until(lambda: stage.act(1) is not None)


def test_without_overlap_each_state_is_inferred() -> None:
    model = Model()
    model.may.release(100)
    player = ChunkPlayer(model, queue(5), overlap=False)
    for period in range(4):
        action = player.act(np.array([period], np.float32), period * PERIOD, '1@0')
        np.testing.assert_array_equal(action, [period])
    assert model.asked == [0, 1, 2, 3]


# --- policies -------------------------------------------------------------------------------

LAYOUT = ChunkLayout(4, 2)


def crafted(contract: Contract, seal: Seal, horizon: int = 4, **changes: object) -> PolicyBundle:
    """Return a policy whose row i is ``observation @ weight[i]``, made without torch."""
    weight = np.random.default_rng(0).standard_normal((OBS, horizon * ACT)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node('MatMul', ['observation', 'weight'], ['flat']),
         helper.make_node('Reshape', ['flat', 'shape'], ['action'])], 'policy',
        [helper.make_tensor_value_info('observation', TensorProto.FLOAT, [1, OBS])],
        [helper.make_tensor_value_info('action', TensorProto.FLOAT, [1, horizon, ACT])],
        [numpy_helper.from_array(weight, 'weight'),
         numpy_helper.from_array(np.array([1, horizon, ACT]), 'shape')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)
    manifest = msgspec.structs.replace(Manifest(
        name='chunks', version=1, sha256='', size=0, opset=20, contract=contract,
        algorithm='act', sampling='deterministic', training_commit='', training_updates=0,
        evaluation=None, data={}, created='2026-01-01T00:00:00+00:00', chunk_layout=LAYOUT,
        golden=(GoldenVector((1.0,) * OBS, tuple(weight.sum(0).tolist())),)), **changes)
    helper.set_model_props(model, manifest.metadata())
    return seal(model.SerializeToString(), manifest)


def test_a_chunk_policy_survives_file_and_message(contract: Contract, seal: Seal,
                                                  tmp_path: object) -> None:
    bundle = crafted(contract, seal)
    loaded = PolicyBundle.load(bundle.save(tmp_path / 'policy.onnx'))
    assert loaded == bundle
    assert loaded.manifest.chunk == LAYOUT
    assert loaded.manifest.action_shape == (4, ACT)
    found = {entry.key: entry.value
             for entry in onnx.ModelProto.FromString(loaded.onnx).metadata_props}
    assert (found['horizon'], found['spacing']) == ('4', '2')
    runtime, observation = PolicyRuntime(loaded), np.ones(OBS, np.float32)
    chunk = runtime.act(observation)
    assert chunk.shape == (4, ACT)
    np.testing.assert_allclose(chunk.ravel(), loaded.manifest.golden[0].action, rtol=1e-5)


def test_a_manifest_without_chunks_says_nothing_of_them(bundle: PolicyBundle) -> None:
    assert bundle.manifest.chunk is None
    assert 'chunk' not in msgspec.json.decode(bundle.manifest_json())
    assert 'horizon' not in bundle.manifest.metadata()


@pytest.mark.parametrize(('horizon', 'changes', 'message'), [
    (3, {'golden': (GoldenVector((1.0,) * OBS, (0.0,) * 8),)},
     r'action is float32\[1, 3, 2\], the contract says float32\[1, 4, 2\]'),
    (4, {'chunk_layout': msgspec.UNSET}, r'golden vector 0 of 5 -> 8 values.*5 -> 2'),
    (4, {'sampling': 'squashed_gaussian'}, 'chunks with squashed_gaussian sampling'),
    (4, {'golden': (GoldenVector((1.0,) * OBS, (0.0,) * 8),)}, 'to golden vector 0')])
def test_chunk_policies_that_do_not_fit_are_refused(contract: Contract, seal: Seal, horizon: int,
                                                    changes: dict, message: str) -> None:
    wrong = crafted(contract, seal, horizon, **changes)
    with pytest.raises(BundleError, match=message):
        PolicyRuntime(PolicyBundle.from_parts(wrong.onnx, wrong.manifest_json()))


class ChunkNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(OBS, 4 * ACT)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.body(observation)).reshape(-1, 4, ACT)


def test_torch_and_the_player_answer_the_same(contract: Contract) -> None:
    net = ChunkNet()
    exporter = PolicyExporter(net, contract, 'chunks', 'act', 'deterministic', chunk=LAYOUT)
    bundle = exporter.export(net, 1, 0)
    assert bundle.manifest.chunk == LAYOUT
    runtime = PolicyRuntime(bundle)
    player = ChunkPlayer(runtime.act, ChunkQueue(LAYOUT, ACT, PERIOD, REPLACE), overlap=False)
    observation = np.linspace(-1, 1, OBS).astype(np.float32)
    expected = net(torch.from_numpy(observation)[None])[0].detach().numpy()
    np.testing.assert_allclose(player.act(observation, 0, '1@0'), expected[0], atol=1e-6)
    net.body.weight.data.neg_()
    again = exporter.export(net, 2, 0)  # the template serves chunks too
    np.testing.assert_allclose(
        PolicyRuntime(again).act(observation),
        net(torch.from_numpy(observation)[None])[0].detach().numpy(), atol=1e-6)
