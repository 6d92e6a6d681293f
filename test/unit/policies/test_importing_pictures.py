# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks that see pictures come in from other trainers and answer as they do there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
import warnings

import numpy as np
import pytest
from rl_nodes.cli import main
from rl_nodes.core.errors import BundleError, ConfigError, RlNodesError
from rl_nodes.core.resources import find_config
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.probes import probe_pictures, random_observations
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.policies.importing import import_policy, ImportOptions
from rl_nodes.tasks import load_task
import torch
from torch import nn

ARM = load_task('arm', 'reach')
OBS, ACT = len(ARM.contract.observation.elements), len(ARM.contract.action.elements)
PROBES = random_observations(ARM.contract.observation)
HEIGHT, WIDTH = 24, 32


class Cnn(nn.Module):
    """An actor as of robomimic or stable-baselines3's NatureCNN, small: RGB planes in [0, 1]."""

    def __init__(self, seen: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.eye = nn.Sequential(
            nn.Conv2d(3, 8, 4, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(seen + OBS, 16), nn.ReLU(), nn.Linear(16, ACT),
                                  nn.Tanh())

    def forward(self, obs: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.eye(image), obs], 1))


class Raw(Cnn):
    """The same, which takes the camera's bytes."""

    def forward(self, obs: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return super().forward(obs, image.permute(0, 3, 1, 2).float() / 255.0)


SEEN = 8 * 5 * 7


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('seeing')
    (folder / 'see.yaml').write_text(
        find_config('tasks', 'reach').read_text()
        + f'pictures:\n  - {{camera: wrist, width: {WIDTH}, height: {HEIGHT}}}\n')
    (folder / 'two.yaml').write_text(
        find_config('tasks', 'reach').read_text()
        + f'pictures:\n  - {{camera: wrist, width: {WIDTH}, height: {HEIGHT}}}\n'
          f'  - {{camera: front, width: {WIDTH}, height: {HEIGHT}}}\n')
    return folder


def export(module: nn.Module, folder: Path, image: torch.Tensor, batch: bool = True,
           free: tuple[int, ...] = ()) -> Path:
    path = folder / f'{type(module).__name__}_{"_".join(map(str, image.shape))}_{batch}.onnx'
    axes = {'obs': {0: 'batch'}, 'image': {axis: f'axis_{axis}' for axis in (0, *free)},
            'actions': {0: 'batch'}} if batch else {}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(module.eval(), (torch.zeros(1, OBS), image), str(path),
                          input_names=['obs', 'image'], output_names=['actions'],
                          opset_version=17, dynamo=False, dynamic_axes=axes)
    return path


PLANES, BYTES = torch.zeros(1, 3, HEIGHT, WIDTH), torch.zeros(1, HEIGHT, WIDTH, 3,
                                                              dtype=torch.uint8)


def bring(source: Path, folder: Path, out: Path, **options: Any) -> PolicyRuntime:
    given = {'robot': 'arm', 'task': str(folder / 'see.yaml'), 'observation': 'obs',
             'output': str(out / 'policy.onnx'), 'pictures': 'image=wrist'} | options
    path, report = import_policy(source, ImportOptions(**given))
    assert 'picture_wrist uint8[24, 32, 3] of camera wrist, at most 0.3 s old' in report
    return PolicyRuntime(PolicyBundle.load(path))


@pytest.mark.parametrize('make', [
    lambda folder: (Cnn(SEEN), export(Cnn(SEEN), folder, PLANES)),
    lambda folder: (Cnn(SEEN), export(Cnn(SEEN), folder, PLANES, batch=False)),
    lambda folder: (Raw(SEEN), export(Raw(SEEN), folder, BYTES)),
], ids=['planes', 'planes of a fixed batch', 'bytes'])
def test_it_answers_as_its_network_does(make: Callable, folder: Path, tmp_path: Path) -> None:
    module, source = make(folder)
    policy = bring(source, folder, tmp_path)
    specs = policy.contract.pictures
    for number in (0, 1, 2, 3, 10):
        picture, = probe_pictures(specs, number)
        shown = torch.from_numpy(picture[None].copy())
        if isinstance(module, Cnn) and not isinstance(module, Raw):
            shown = shown.permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            expected = module.eval()(torch.from_numpy(PROBES[number:number + 1]), shown).numpy()[0]
        np.testing.assert_allclose(policy.act(PROBES[number], pictures=(picture,)), expected,
                                   atol=1e-5)
    mirrored = probe_pictures(specs, 2)[0][:, ::-1]
    straight = policy.act(PROBES[2], pictures=probe_pictures(specs, 2)).copy()
    assert np.abs(policy.act(PROBES[2], pictures=(mirrored,)) - straight).max() > 1e-5


@pytest.mark.parametrize(('options', 'error', 'message'), [
    ({'pictures': ''}, BundleError, 'say which input of the network takes which, each once: '
                                    'pictures:=input=wrist'),
    ({'pictures': 'image'}, ConfigError, 'pictures:=image: expected pairs of an input and'),
    ({'pictures': 'image=wirst'}, BundleError, "no camera 'wirst' (did you mean 'wrist'?)"),
    ({'pictures': 'imag=wrist'}, BundleError, "no input 'imag' (did you mean 'image'?)"),
    ({'pictures': 'image=wrist,obs=wrist'}, BundleError, 'each once'),
    ({'pictures': 'obs=wrist'}, BundleError, 'takes no picture of camera wrist'),
    ({'task': 'two'}, BundleError, 'observes a picture of wrist and of front'),
    ({'task': 'reach'}, BundleError, "task reach observes no camera 'wrist'"),
])
def test_what_is_not_said_is_asked_for(options: dict[str, str], error: type[RlNodesError],
                                       message: str, folder: Path, tmp_path: Path) -> None:
    given = dict(options)
    if given.get('task') == 'two':
        given['task'] = str(folder / 'two.yaml')
    with pytest.raises(error) as caught:
        bring(export(Cnn(SEEN), folder, PLANES), folder, tmp_path, **given)
    assert message in str(caught.value)
    assert not (tmp_path / 'policy.onnx').exists()


class Indifferent(nn.Module):
    """Takes whatever it is shown."""

    def forward(self, obs: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return torch.tanh(obs[:, :ACT] + image.float().mean())


@pytest.mark.parametrize('image', [
    torch.zeros(1, HEIGHT, WIDTH, 3),                               # float, colours last
    torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.uint8),            # bytes, colours first
    torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.int64),
    torch.zeros(1, 1, HEIGHT, WIDTH), torch.zeros(1, 4, HEIGHT, WIDTH),
    torch.zeros(1, 3, WIDTH, HEIGHT), torch.zeros(2, 3, HEIGHT, WIDTH),
    torch.zeros(1, 2, 3, HEIGHT, WIDTH), torch.zeros(3, HEIGHT, WIDTH)],
    ids=lambda image: f'{image.dtype} {list(image.shape)}')
def test_other_forms_of_pictures_are_refused(image: torch.Tensor, folder: Path,
                                             tmp_path: Path) -> None:
    source = export(Indifferent(), tmp_path, image, batch=False)
    with pytest.raises(BundleError) as caught:
        bring(source, folder, tmp_path)
    assert 'expected uint8[batch, 24, 32, 3] (0 to 255) or float32[batch, 3, 24, 32] (0 to 1)' \
        in str(caught.value)


def test_free_sizes_become_those_of_the_task(folder: Path, tmp_path: Path) -> None:
    source = export(Indifferent(), tmp_path, PLANES, free=(2, 3))
    policy = bring(source, folder, tmp_path)
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    np.testing.assert_allclose(policy.act(PROBES[0], pictures=(white,)),
                               np.tanh(PROBES[0][:ACT] + 1.0), atol=1e-5)


def test_inspect_and_diff_show_pictures(folder: Path, tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    bring(export(Cnn(SEEN), folder, PLANES), folder, tmp_path)
    policy = str(tmp_path / 'policy.onnx')
    assert main(['inspect', policy]) == 0
    text = capsys.readouterr().out
    assert 'picture: picture_wrist uint8[24, 32, 3] of camera wrist, at most 0.3 s old' in text
    assert 'golden vectors    4 agree' in text and 'one call' in text
    assert main(['diff', policy, 'robot:=arm', 'task:=reach']) == 1
    assert 'pictures: robot arm doing reach has None' in capsys.readouterr().out
    assert main(['diff', policy, 'robot:=arm', f'task:={folder / "see.yaml"}']) == 0
