# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks of other trainers come in and answer as they do there; what does not fit is named."""

from collections.abc import Callable
import hashlib
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper
import pytest
from rl_nodes.cli import main
from rl_nodes.core.errors import BundleError, ConfigError, RlNodesError
import rl_nodes.envs  # noqa: F401 - registers the environments
from rl_nodes.inference.bundle import Manifest, PolicyBundle
from rl_nodes.inference.probes import random_observations
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.policies.importing import import_policy, ImportOptions
from rl_nodes.tasks import load_task
import torch
from torch import nn

Export = Callable[..., Path]
ARM = load_task('arm', 'reach')
OBS, ACT = len(ARM.contract.observation.elements), len(ARM.contract.action.elements)
DOG = load_task('quadruped', 'quadruped_stand')
PROBES = random_observations(ARM.contract.observation)


def bring(source: Path, folder: Path, **options: Any) -> PolicyRuntime:
    given = {'robot': 'arm', 'task': 'reach', 'output': str(folder / 'policy.onnx')} | options
    path, _ = import_policy(source, ImportOptions(**given))
    return PolicyRuntime(PolicyBundle.load(path))


def answers(policy: PolicyRuntime, observations: np.ndarray = PROBES) -> np.ndarray:
    return np.array([policy.act(row).copy() for row in observations])


class Plain(nn.Module):
    """An actor of CleanRL's PPO: the mean of a Gaussian, neither squashed nor clipped."""

    def __init__(self, gain: float = 3.0, observations: int = OBS, actions: int = ACT) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.actor_mean = nn.Sequential(
            nn.Linear(observations, 16), nn.Tanh(), nn.Linear(16, actions))
        with torch.no_grad():
            self.actor_mean[-1].weight *= gain

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.actor_mean(obs)


class RslRl(nn.Module):
    """What rsl_rl exports: its normaliser inside, ``obs`` in and ``actions`` out."""

    def __init__(self, observations: int, actions: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.register_buffer('mean', torch.randn(1, observations))
        self.register_buffer('std', torch.rand(1, observations) + 0.2)
        self.actor = nn.Sequential(nn.Linear(observations, 32), nn.ELU(), nn.Linear(32, actions))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.actor((x - self.mean) / (self.std + 1e-2))


def torch_answers(module: nn.Module, observations: np.ndarray = PROBES) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(observations)).numpy()


# --- real exports -------------------------------------------------------------------------------

@pytest.mark.parametrize('algorithm', ['SAC', 'PPO'])
def test_stable_baselines3(algorithm: str, export: Export, tmp_path: Path) -> None:
    import stable_baselines3
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    venv = VecNormalize(DummyVecEnv([lambda: gymnasium.make('rl_nodes/Reach-v0')]),
                        clip_obs=5.0)
    venv.reset()
    for _ in range(30):  # the statistics move
        venv.step(np.array([venv.action_space.sample()]))
    model = getattr(stable_baselines3, algorithm)('MlpPolicy', venv, seed=0)

    class Deterministic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy = model.policy

        def forward(self, obs: torch.Tensor) -> torch.Tensor:
            return self.policy._predict(obs, deterministic=True)

    statistics = tmp_path / 'norm.npz'
    np.savez(statistics, mean=venv.obs_rms.mean, var=venv.obs_rms.var, epsilon=venv.epsilon,
             clip=venv.clip_obs)
    policy = bring(export(Deterministic(), OBS, algorithm), tmp_path, name='sb3',
                   normalisation=str(statistics), actions='unit' if algorithm == 'SAC' else 'clip',
                   algorithm=algorithm.lower(), trainer='stable-baselines3', version=7)
    expected, _ = model.predict(venv.normalize_obs(PROBES), deterministic=True)
    np.testing.assert_allclose(answers(policy), expected, atol=1e-5)
    assert np.abs(expected - model.predict(PROBES, deterministic=True)[0]).max() > 0.01
    venv.close()
    manifest = policy.bundle.manifest
    assert (policy.bundle.label, manifest.algorithm) == ('sb3@7', algorithm.lower())
    assert manifest.origin.trainer == 'stable-baselines3'
    assert hashlib.sha256(statistics.read_bytes()).hexdigest() in manifest.origin.changes[0]


def test_rsl_rl_in_units_of_the_robot(export: Export, tmp_path: Path) -> None:
    # As in Isaac Lab: target = 0.25 · action + default joint position.
    width, count = len(DOG.contract.observation.elements), len(DOG.contract.action.elements)
    module = RslRl(width, count)
    policy = bring(export(module, width, 'rsl_rl', opset=18, batch=False), tmp_path,
                   robot='quadruped', task='quadruped_stand', actions='robot', scale='0.25',
                   offset='home')
    observations = random_observations(DOG.contract.observation)
    home, actions = DOG.robot.home[DOG.robot.commanded], DOG.action_map
    wanted = home + 0.25 * torch_answers(module, observations)
    reachable = np.clip(wanted, home - actions.size, home + actions.size)
    found = home + answers(policy, observations) * actions.size
    np.testing.assert_allclose(found, reachable, atol=1e-5)
    assert (wanted != reachable).any() and (wanted == reachable).any()


def test_cleanrl_is_clipped_and_the_report_says_so(export: Export, tmp_path: Path) -> None:
    module = Plain(gain=30.0)
    source = export(module, OBS, 'cleanrl', opset=11)
    policy = bring(source, tmp_path, actions='clip')
    expected = torch_answers(module).clip(-1, 1)
    np.testing.assert_allclose(answers(policy), expected, atol=1e-5)
    assert (np.abs(expected) == 1).any()
    assert policy.bundle.manifest.opset == 20, 'opset 11 was converted'
    origin = policy.bundle.manifest.origin
    assert origin.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert origin.changes == ('action clipped to [-1, 1]',)


@pytest.mark.parametrize('shape', [(), (1,)])
def test_with_and_without_a_batch(shape: tuple[int, ...], export: Export, tmp_path: Path) -> None:
    module = Plain(gain=1.0)
    policy = bring(export(module, OBS, f'batch{len(shape)}', batch=False, shape=shape), tmp_path,
                   actions='clip')
    np.testing.assert_allclose(answers(policy), torch_answers(module).clip(-1, 1), atol=1e-5)


def test_the_newer_exporter_of_torch(tmp_path: Path) -> None:
    module, source = Plain(gain=1.0).eval(), tmp_path / 'model.onnx'
    for inside in (False, True):
        torch.onnx.export(module, (torch.zeros(2, OBS),), str(source), input_names=['obs'],
                          dynamic_shapes={'obs': {0: torch.export.Dim('batch')}}, verbose=False,
                          external_data=not inside)
        if inside:
            policy = bring(source, tmp_path, actions='clip')
            np.testing.assert_allclose(answers(policy), torch_answers(module).clip(-1, 1),
                                       atol=1e-5)
        else:
            with pytest.raises(BundleError, match='external_data=False'):
                bring(source, tmp_path, actions='clip')


def test_one_of_several_outputs(export: Export, tmp_path: Path) -> None:
    class ActorCritic(Plain):
        def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            action = self.actor_mean(obs)
            return action.sum(-1, keepdim=True), torch.tanh(action)

    source = export(ActorCritic(), OBS, 'two', outputs=('value', 'mu'))
    with pytest.raises(BundleError, match=r'outputs value float32.*, mu float32.*action:=value'):
        bring(source, tmp_path)
    with pytest.raises(BundleError, match=r"no output 'vlue' \(did you mean 'value'\?\)"):
        bring(source, tmp_path, action='vlue')
    with pytest.raises(BundleError, match=r'value float32\[1, 1\] does not fit.* 6 values'):
        bring(source, tmp_path, action='value')
    policy = bring(source, tmp_path, action='mu')
    with torch.no_grad():
        expected = ActorCritic()(torch.from_numpy(PROBES))[1].numpy()
    np.testing.assert_allclose(answers(policy), expected, atol=1e-5)
    assert b'value' not in policy.bundle.onnx


# --- refusals -----------------------------------------------------------------------------------

def test_a_network_for_something_else(export: Export, tmp_path: Path) -> None:
    source = export(Plain(observations=OBS - 1), OBS - 1, 'narrow')
    with pytest.raises(BundleError, match=r'obs float32\[batch, 17\] does not fit: the task '
                                          r'observes 18 values.*joint_position/shoulder_pan'):
        bring(source, tmp_path, actions='clip')
    source = export(Plain(actions=ACT + 1), OBS, 'seven')
    with pytest.raises(BundleError, match=r'does not fit: the robot is moved by 6 values'):
        bring(source, tmp_path, actions='clip')
    assert not list(tmp_path.iterdir())


def test_two_inputs(export: Export, tmp_path: Path) -> None:
    class Two(Plain):
        def forward(self, obs: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
            return self.actor_mean(obs + memory)

    source = export(Two(), OBS, 'memory', inputs=('obs', 'memory'))
    with pytest.raises(BundleError, match='inputs obs float32.*, memory .*observation:=obs'):
        bring(source, tmp_path)
    with pytest.raises(BundleError, match=r'asks for memory float32.* besides obs'):
        bring(source, tmp_path, observation='obs')


def test_outputs_that_are_no_unit_actions(export: Export, tmp_path: Path) -> None:
    source = export(Plain(gain=30.0), OBS, 'unbounded')
    with pytest.raises(BundleError, match=r'answers up to .*actions:=clip.*actions:=robot'):
        bring(source, tmp_path)


@pytest.mark.parametrize(('options', 'reason'), [
    ({'actions': 'robot', 'scale': '1,2'}, 'expected a number, or 6 of them'),
    ({'actions': 'robot', 'scale': '0'}, 'nothing of the action'),
    ({'actions': 'robot', 'offset': 'hme'}, 'or home'),
    ({'actions': 'robot', 'scale': 'nan'}, 'expected a number'),
    ({'robot': 'rover', 'task': 'navigate', 'actions': 'robot'}, 'one joint each'),
    ({'output': 'policy.txt'}, 'name of a .onnx file'),
    ({'task': 'raech'}, "did you mean 'reach'")])
def test_arguments_that_make_no_sense(options: dict[str, str], reason: str, export: Export,
                                      tmp_path: Path) -> None:
    with pytest.raises(RlNodesError, match=reason):
        bring(export(Plain(), OBS, 'plain'), tmp_path, **options)


def test_scale_belongs_to_robot() -> None:
    with pytest.raises(ValueError, match='belong to actions:=robot'):
        ImportOptions(robot='arm', task='reach', scale='0.25')


def test_a_file_that_is_there_is_kept(export: Export, tmp_path: Path) -> None:
    (tmp_path / 'policy.onnx').write_text('precious')
    with pytest.raises(ConfigError, match='exists'):
        bring(export(Plain(), OBS, 'plain'), tmp_path)
    assert (tmp_path / 'policy.onnx').read_text() == 'precious'


def change(source: Path, folder: Path, edit: Callable[[onnx.ModelProto], Any]) -> Path:
    model = onnx.load(source)
    edit(model)
    path = folder / 'changed.onnx'
    path.write_bytes(model.SerializeToString())
    return path


def put_in_front(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    nodes = [onnx.NodeProto.FromString(entry.SerializeToString()) for entry in model.graph.node]
    del model.graph.node[:]
    nodes[0].input[0] = node.output[0]
    model.graph.node.extend([node, *nodes])


def random_numbers(model: onnx.ModelProto) -> None:
    put_in_front(model, helper.make_node('RandomNormalLike', ['obs'], ['x']))


def custom(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid('com.example', 1))


def external(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key='location', value='weights.bin')


def poison(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(
        np.full(list(weight.dims), np.nan, np.float32), weight.name))


def other_joints(model: onnx.ModelProto) -> None:
    helper.set_model_props(model, {'joint_names': ','.join(
        reversed(ARM.contract.action.elements))})


@pytest.mark.parametrize(('edit', 'reason'), [
    (random_numbers, 'operator RandomNormalLike'), (custom, "operator domains .'com.example'."),
    (external, 'in another file'), (poison, 'values that are not finite'),
    (other_joints, 'commanded in the order shoulder_pan, shoulder_lift')])
def test_graphs_that_no_policy_may_have(edit: Callable[[onnx.ModelProto], Any], reason: str,
                                        export: Export, tmp_path: Path) -> None:
    source = change(export(Plain(), OBS, 'plain'), tmp_path, edit)
    with pytest.raises(BundleError, match=reason):
        bring(source, tmp_path, actions='clip')
    assert not (tmp_path / 'policy.onnx').exists()


def test_joints_in_our_order_are_fine(export: Export, tmp_path: Path) -> None:
    source = change(export(Plain(), OBS, 'plain'), tmp_path, lambda model: helper.set_model_props(
        model, {'joint_names': ', '.join(ARM.contract.action.elements)}))
    assert bring(source, tmp_path, actions='clip')


def test_not_a_model(tmp_path: Path) -> None:
    source = tmp_path / 'model.onnx'
    for content in (b'nonsense', b'', b'\x08\x07'):
        source.write_bytes(content)
        with pytest.raises(BundleError):
            bring(source, tmp_path)


# --- normalisation ------------------------------------------------------------------------------

@pytest.mark.parametrize(('arrays', 'reason'), [
    ({'mean': np.zeros(OBS)}, 'holds mean; expected mean and either var or std'),
    ({'mean': np.zeros(OBS), 'std': np.ones(OBS), 'var': np.ones(OBS)}, 'either var or std'),
    ({'mean': np.zeros(OBS), 'std': np.ones(OBS), 'means': 1.0}, "did you mean 'mean'"),
    ({'mean': np.zeros(3), 'std': np.ones(OBS)}, r'mean has the shape \[3\], the task observes'),
    ({'mean': np.zeros(OBS), 'var': np.zeros(OBS)}, 'give an epsilon'),
    ({'mean': np.full(OBS, np.nan), 'var': np.ones(OBS)}, 'not finite'),
    ({'mean': np.zeros(OBS), 'std': np.ones(OBS), 'clip': -1.0}, 'positive clip'),
    ({'mean': np.array([object()] * OBS), 'std': np.ones(OBS)}, 'no readable .npz')])
def test_statistics_that_make_no_sense(arrays: dict[str, Any], reason: str, export: Export,
                                       tmp_path: Path) -> None:
    path = tmp_path / 'norm.npz'
    np.savez(path, **arrays)
    with pytest.raises(BundleError, match=reason):
        bring(export(Plain(), OBS, 'plain'), tmp_path, normalisation=str(path), actions='clip')


def test_statistics_from_a_pickle_are_not_read(export: Export, tmp_path: Path) -> None:
    path = tmp_path / 'vecnormalize.pkl'
    path.write_bytes(b'\x80\x04}.')
    with pytest.raises(BundleError, match='no readable .npz file'):
        bring(export(Plain(), OBS, 'plain'), tmp_path, normalisation=str(path), actions='clip')


# --- the other commands -------------------------------------------------------------------------

def test_import_inspect_and_diff_as_a_user_types_them(export: Export, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    source = export(Plain(), OBS, 'plain')
    assert main(['import', str(source), 'robot:=arm', 'task:=reach', 'actions:=clip',
                 'trainer:=CleanRL']) == 0
    said = capsys.readouterr().out
    assert '0  joint_position/shoulder_pan   rad     [-2.9, 2.9]' in said
    assert '0  shoulder_pan   1       [-1, 1]  1 = 0.04 rad away from where it is' in said
    assert main(['inspect', 'arm_reach.onnx']) == 0
    said = capsys.readouterr().out
    for part in ('arm_reach@1', 'robot arm, task reach, 50 Hz', 'goal_offset/z', 'CleanRL',
                 'plain.onnx', 'golden vectors    4 agree', 'parameters', 'p99'):
        assert part in said
    assert main(['diff', 'arm_reach.onnx', 'robot:=arm', 'task:=reach']) == 0
    assert 'have the same contract' in capsys.readouterr().out
    assert main(['diff', 'arm_reach.onnx', 'robot:=arm', 'task:=push']) == 1
    said = capsys.readouterr().out
    assert "only robot arm doing push has ['object_from_tool/puck/x'" in said
    assert 'observation.units' not in said
    assert main(['diff', 'arm_reach.onnx']) == 2
    assert main(['diff', 'arm_reach.onnx', 'robot:=arm']) == 2
    assert main(['import', 'robot:=arm', 'task:=reach']) == 2
    assert main(['import', '--help']) == 0


def test_inspect_names_what_a_server_would_refuse(export: Export, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture) -> None:
    bundle = bring(export(Plain(), OBS, 'plain'), tmp_path, actions='clip').bundle
    golden = msgspec.structs.replace(bundle.manifest.golden[0], action=(0.5,) * ACT)
    forged: Manifest = msgspec.structs.replace(bundle.manifest, golden=(golden,))
    path = PolicyBundle.sealed(bundle.onnx, forged).save(tmp_path / 'forged.onnx')
    assert main(['inspect', str(path)]) == 1
    said = capsys.readouterr().out
    assert 'REFUSED' in said and 'golden vector 0' in said and 'robot arm' in said
    path.write_bytes(bundle.onnx[:-1])
    assert main(['inspect', str(path)]) == 2
    assert 'truncated' in capsys.readouterr().err
