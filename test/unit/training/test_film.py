# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A moving picture at the end of a run, or the reason why there is none."""

import io

import gymnasium
import numpy as np
from PIL import Image
import pytest
from rl_nodes.core.errors import TrainingError
from rl_nodes.training.film import write_film
from rl_nodes.training.in_process import train, TrainOptions
from rl_nodes.training.progress import Progress


class Still:
    def reset(self):
        pass

    def act(self, observation):
        return np.zeros(1, np.float32)


@pytest.fixture
def drawn(point_env):
    """Return the class of an environment that can be drawn at 25 pictures a second."""
    class Drawn(point_env):
        metadata = {'render_modes': ['rgb_array'], 'render_fps': 25}

        def __init__(self, render_mode=None):
            super().__init__()
            self.render_mode = render_mode

        def render(self):
            return np.full((300, 500, 3), 50 * self.t, np.uint8)
    return Drawn


def test_every_second_picture_and_the_last_one(drawn, tmp_path):
    path = write_film(drawn('rgb_array'), Still(), 0, tmp_path / 'film.gif')
    with Image.open(path) as film:
        assert film.size == (400, 240)
        shades, durations = [], []
        for index in range(film.n_frames):
            film.seek(index)
            shades.append(film.convert('RGB').getpixel((0, 0))[0])
            durations.append(film.info['duration'])
    assert shades == [0, 100, 200, 250]  # steps 0, 2, 4 and the end, 5
    assert durations == [80, 80, 80, 500]


def test_what_cannot_be_drawn_says_so(point_env, tmp_path, monkeypatch):
    monkeypatch.setattr(point_env, 'render', lambda self: None)
    with pytest.raises(TrainingError, match='NoneType and no picture'):
        write_film(point_env(), Still(), 0, tmp_path / 'film.gif')
    monkeypatch.setattr(point_env, 'render', lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_film(point_env(), Still(), 0, tmp_path / 'film.gif')


@pytest.mark.parametrize('wanted', [True, False])
def test_a_run_ends_with_one(drawn, tmp_path, wanted):
    (tmp_path / 'small.yaml').write_text(
        'algorithm: ppo\nlearner: {hidden: [8], rollout_steps: 50, batch_size: 50}\n'
        'loop: {evaluate_every_steps: 50, evaluation_episodes: 2, confirmation_episodes: 2}\n')
    gymnasium.register('rl_nodes_test/Drawn-v0', entry_point=drawn)
    try:
        train(TrainOptions(env='rl_nodes_test/Drawn-v0', algorithm=str(tmp_path / 'small.yaml'),
                           run_dir=str(tmp_path / 'run'), steps=100, film=wanted),
              Progress(io.StringIO()))
    finally:
        gymnasium.registry.pop('rl_nodes_test/Drawn-v0')
    assert (tmp_path / 'run' / 'rollout.gif').is_file() == wanted
    assert ('rollout.gif' in (tmp_path / 'run' / 'summary.md').read_text()) == wanted
