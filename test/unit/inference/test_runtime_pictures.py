# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Policies that see pictures: exported, checked, run, tried out, refused where they do not fit."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from onnx import helper, ModelProto, TensorProto
import pytest
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError, SpecError
from rl_nodes.core.pictures import PictureSpec
from rl_nodes.inference.actors import ChunkActor, SingleActor
from rl_nodes.inference.bundle import GoldenVector, identify, Manifest, PolicyBundle
from rl_nodes.inference.chunking import Blend, ChunkLayout
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.memory import StateTensor
from rl_nodes.inference.probes import probe_pictures
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.inference.trial import PolicyTrial
import torch
from torch import nn

OBS, ACT, HIDDEN = 5, 2, 8
SPECS = (PictureSpec('wrist', 16, 12), PictureSpec('front', 10, 8))
Seal = Callable[[bytes, Manifest], PolicyBundle]
ROW = np.linspace(-1, 1, OBS, dtype=np.float32)


class Sees(nn.Module):
    """A small network with convolutions for each picture; it may remember or plan."""

    def __init__(self, remembers: bool = False, rows: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.eyes = nn.ModuleList(nn.Sequential(
            nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 1), nn.ReLU(), nn.Flatten())
            for _ in SPECS)
        seen = sum(eye(torch.zeros(1, 3, *spec.shape[:2])).shape[1]
                   for eye, spec in zip(self.eyes, SPECS))
        self.memory = nn.GRUCell(OBS + seen, HIDDEN) if remembers else None
        self.rows = rows
        self.head = nn.Linear(HIDDEN if remembers else OBS + seen, ACT * max(rows, 1))

    def forward(self, observation: torch.Tensor, wrist: torch.Tensor, front: torch.Tensor,
                *states: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        planes = [picture.permute(0, 3, 1, 2).float() / 255 for picture in (wrist, front)]
        seen = [eye(plane) for eye, plane in zip(self.eyes, planes)]
        x = torch.cat([observation, *seen], 1)
        if self.memory is not None:
            x = self.memory(x, states[0])
        action = torch.tanh(self.head(x))
        if self.rows:
            return action.reshape(-1, self.rows, ACT)
        return action if self.memory is None else (action, x)


@pytest.fixture(scope='module')
def seeing(contract: Contract) -> Contract:
    return msgspec.structs.replace(contract, pictures_spec=SPECS)


@pytest.fixture(scope='module')
def net() -> Sees:
    return Sees()


@pytest.fixture(scope='module')
def seer(seeing: Contract, net: Sees) -> PolicyBundle:
    return PolicyExporter(net, seeing, 'seer', 'bc', 'deterministic').export(
        net, 1, 0, recorded_observations=np.zeros((3, OBS), np.float32))


@pytest.fixture(scope='module')
def policy(seer: PolicyBundle) -> PolicyRuntime:
    return PolicyRuntime(seer)


def of_torch(net: Sees, row: np.ndarray, pictures: tuple[np.ndarray, ...]) -> np.ndarray:
    with torch.no_grad():
        return net(torch.from_numpy(row[None]), *(
            torch.from_numpy(picture[None].copy()) for picture in pictures)).numpy()[0]


def test_it_answers_as_in_torch_and_looks_at_every_picture(policy: PolicyRuntime,
                                                           net: Sees) -> None:
    for number in (0, 1, 2, 3, 4):
        pictures = probe_pictures(SPECS, number)
        answer = policy.act(ROW, pictures=pictures).copy()
        np.testing.assert_allclose(answer, of_torch(net, ROW, pictures), atol=1e-5)
        np.testing.assert_array_equal(answer, policy.answer(ROW, *pictures))
    wrist, front = probe_pictures(SPECS, 2)
    both = policy.act(ROW, pictures=(wrist, front)).copy()
    for other in ((wrist[:, :, ::-1], front), (wrist, front[::-1])):
        assert np.abs(policy.act(ROW, pictures=other) - both).max() > 1e-4


def test_a_picture_is_copied_into_the_same_buffers(policy: PolicyRuntime) -> None:
    pictures = probe_pictures(SPECS, 4)
    before = [buffer.ctypes.data for buffer in policy._session.pictures]
    policy.act(ROW, pictures=pictures)
    assert [buffer.ctypes.data for buffer in policy._session.pictures] == before
    assert all(np.array_equal(buffer, picture)
               for buffer, picture in zip(policy._session.pictures, pictures))


@pytest.mark.parametrize(('pictures', 'message'), [
    ((), '0 pictures came, expected picture_wrist'),
    (probe_pictures(SPECS, 2)[:1], '1 pictures came'),
    (probe_pictures(SPECS, 2)[::-1], r'picture_wrist: got uint8\[8, 10, 3\]'),
    (tuple(p.astype(np.float32) for p in probe_pictures(SPECS, 2)), 'got float32'),
    (tuple(p[:, :, :1] for p in probe_pictures(SPECS, 2)), r'got uint8\[12, 16, 1\]'),
    (tuple(p.transpose(2, 0, 1) for p in probe_pictures(SPECS, 2)), r'uint8\[3, 12, 16\]'),
])
def test_other_pictures_are_refused(policy: PolicyRuntime, pictures: tuple[np.ndarray, ...],
                                    message: str) -> None:
    with pytest.raises(SpecError, match=message):
        policy.act(ROW, pictures=pictures)
    policy.act(ROW, pictures=probe_pictures(SPECS, 2))


def test_a_policy_that_sees_nothing_takes_no_pictures(bundle: PolicyBundle) -> None:
    policy = PolicyRuntime(bundle)
    with pytest.raises(SpecError, match='2 pictures came, expected none'):
        policy.act(ROW, pictures=probe_pictures(SPECS, 2))
    assert all(vector.pictures is msgspec.UNSET for vector in bundle.manifest.golden)
    assert '"pictures"' not in bundle.manifest_json()


def test_probes_are_the_same_everywhere_and_differ() -> None:
    wrist, front = probe_pictures(SPECS, 2)
    assert wrist.dtype == np.uint8 and wrist.shape == (12, 16, 3) and front.shape == (8, 10, 3)
    # SHAKE-128 of b'wrist 2', patches of 8 x 8; of b'front 3', every pixel.
    import hashlib
    grid = np.frombuffer(hashlib.shake_128(b'wrist 2').digest(8 * 8 * 3), np.uint8)
    assert (wrist[0, 0] == grid[:3]).all() and (wrist[-1, -1] == grid[-3:]).all()
    noise = np.frombuffer(hashlib.shake_128(b'front 3').digest(8 * 10 * 3), np.uint8)
    assert np.array_equal(probe_pictures(SPECS, 3)[1].ravel(), noise)
    assert not probe_pictures(SPECS, 0)[0].any() and (probe_pictures(SPECS, 1)[0] == 255).all()


# --- files --------------------------------------------------------------------------------------

def test_it_survives_the_way_through_a_file_and_a_trial(seer: PolicyBundle,
                                                        tmp_path: Path) -> None:
    loaded = PolicyBundle.load(seer.save(tmp_path))
    assert loaded == seer
    assert sorted(vector.pictures for vector in loaded.manifest.golden) != [0, 0, 0, 0]
    parts = identify(seer.onnx, seer.manifest_json(), 'test')
    assert PolicyTrial().admit(parts).contract.pictures == SPECS


def test_golden_vectors_notice_another_picture(seer: PolicyBundle, seal: Seal) -> None:
    vectors = [msgspec.structs.replace(v, pictures=v.pictures + 7) for v in seer.manifest.golden]
    forged = seal(seer.onnx, msgspec.structs.replace(seer.manifest, golden=tuple(vectors)))
    with pytest.raises(BundleError, match='golden vector 0'):
        PolicyRuntime(forged)
    with pytest.raises(BundleError, match='golden vector 0'):
        PolicyTrial().admit(forged)


def test_golden_vectors_have_pictures_where_the_contract_has(seer: PolicyBundle, seal: Seal,
                                                             bundle: PolicyBundle) -> None:
    bare = tuple(GoldenVector(v.observation, v.action) for v in seer.manifest.golden)
    shown = tuple(msgspec.structs.replace(v, pictures=1) for v in bundle.manifest.golden)
    for source, golden, word in ((seer, bare, 'without'), (bundle, shown, 'with')):
        forged = seal(source.onnx, msgspec.structs.replace(source.manifest, golden=golden))
        with pytest.raises(BundleError, match=f'golden vector 0 {word} pictures'):
            identify(forged.onnx, forged.manifest_json(), 'test')


def altered(seer: PolicyBundle, seal: Seal, change: Callable[[ModelProto], None]) -> PolicyBundle:
    model = ModelProto.FromString(seer.onnx)
    change(model)
    return seal(model.SerializeToString(), seer.manifest)


def other_size(model: ModelProto) -> None:
    value = next(v for v in model.graph.input if v.name == 'picture_wrist')
    value.type.tensor_type.shape.dim[1].dim_value = 4096


def free_size(model: ModelProto) -> None:
    value = next(v for v in model.graph.input if v.name == 'picture_wrist')
    value.type.tensor_type.shape.dim[2].dim_param = 'width'


def as_float(model: ModelProto) -> None:
    value = next(v for v in model.graph.input if v.name == 'picture_wrist')
    value.type.tensor_type.elem_type = TensorProto.FLOAT


def one_less(model: ModelProto) -> None:
    kept = [v for v in model.graph.input if v.name != 'picture_front']
    del model.graph.input[:]
    model.graph.input.extend(kept)


def one_more(model: ModelProto) -> None:
    model.graph.input.append(
        helper.make_tensor_value_info('picture_back', TensorProto.UINT8, [1, 4, 4, 3]))


@pytest.mark.parametrize(('change', 'message'), [
    (other_size, r'picture_wrist is uint8\[1, 4096, 16, 3\], the contract says'),
    (free_size, 'picture_wrist is uint8'), (as_float, 'picture_wrist is float32'),
    (one_less, 'expected observation, picture_wrist, picture_front'),
    (one_more, 'picture_back')])
def test_graphs_that_see_something_else_are_refused(
        seer: PolicyBundle, seal: Seal, change: Callable[[ModelProto], None],
        message: str) -> None:
    forged = altered(seer, seal, change)
    with pytest.raises(BundleError, match=message):
        PolicyBundle.from_parts(forged.onnx, forged.manifest_json())


def test_a_network_that_fails_on_a_black_picture_is_refused(seeing: Contract) -> None:
    class Normalising(Sees):
        def forward(self, observation: torch.Tensor, wrist: torch.Tensor,
                    front: torch.Tensor) -> torch.Tensor:
            x = wrist.float().flatten(1)[:, :ACT]
            return (x / x.mean() + observation[:, :ACT] + front.float().mean()).clamp(-1.0, 1.0)

    net = Normalising()
    with pytest.raises(BundleError, match='not finite'):
        PolicyExporter(net, seeing, 'dark', 'bc', 'deterministic').export(net, 1, 0)


# --- with a memory, with chunks -----------------------------------------------------------------

def test_it_may_remember_what_it_saw(seeing: Contract) -> None:
    net = Sees(remembers=True)
    bundle = PolicyExporter(net, seeing, 'recalls', 'bc', 'deterministic', memory=(
        StateTensor('h_in', 'h_out', (1, HIDDEN)),)).export(net, 1, 0)
    policy = PolicyTrial().admit(bundle)
    shown = probe_pictures(SPECS, 2)
    first, second = (policy.act(ROW, pictures=shown).copy() for _ in range(2))
    assert np.abs(first - second).max() > 1e-5
    policy.reset()
    np.testing.assert_array_equal(policy.act(ROW, pictures=shown), first)


class _State:
    def __init__(self, stamp_ns: int) -> None:
        self.stamp_ns, self.episode = stamp_ns, '1@0'


def test_actors_look_at_the_state_that_they_answer(policy: PolicyRuntime, seeing: Contract,
                                                   net: Sees) -> None:
    def look(state: _State) -> tuple[np.ndarray, ...]:
        return probe_pictures(SPECS, state.stamp_ns)

    actor = SingleActor(policy, None, look)
    for number in (2, 3):
        np.testing.assert_allclose(actor.act(ROW, _State(number)),
                                   of_torch(net, ROW, look(_State(number))), atol=1e-5)
    plans = Sees(rows=3)
    bundle = PolicyExporter(plans, seeing, 'plans', 'bc', 'deterministic',
                            chunk=ChunkLayout(3)).export(plans, 1, 0)
    actor = ChunkActor(PolicyRuntime(bundle), 1, Blend(), False, look)
    np.testing.assert_allclose(actor.act(ROW, _State(2)),
                               of_torch(plans, ROW, look(_State(2)))[0], atol=1e-5)
