# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Environments and learners with a task that observes pictures."""

from collections.abc import Iterator

import gymnasium
from gymnasium.utils.env_checker import check_env
import numpy as np
import pytest
from rl_nodes.backends import make_view
from rl_nodes.core.cameras import CameraMount
from rl_nodes.core.errors import ConfigError, TrainingError
from rl_nodes.core.resources import find_config
from rl_nodes.envs.ros_env import RosEnv
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.envs.vector_env import SimVectorEnv
from rl_nodes.training.settings import load_settings, make_learner
from rl_nodes.training.sources import contract_of

CAMERAS = """cameras:
  - {name: front, link: base_link, xyz: [0.75, 0.35, 0.45], rpy: [0.0, 0.4, -2.7],
     width: 64, height: 48, rate_hz: 50}
  - {name: wrist, link: tool, xyz: [0.04, 0.0, -0.02], rpy: [0.0, -1.0, 0.0],
     width: 96, height: 64, rate_hz: 10, far_m: 3.0}
"""


@pytest.fixture(scope='module')
def names(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return (robot, task) with small cameras, of which the task observes both."""
    folder = tmp_path_factory.mktemp('seeing')
    head, _, rest = find_config('robots', 'arm').read_text().partition('cameras:')
    (folder / 'arm.yaml').write_text(head + CAMERAS + rest[rest.index('hardware:'):])
    (folder / 'see.yaml').write_text(
        find_config('tasks', 'reach').read_text().replace('episode_s: 2.0', 'episode_s: 0.3')
        + 'pictures:\n  - {camera: wrist, width: 32, height: 32}\n'
          '  - {camera: front, width: 64, height: 48}\n')
    return str(folder / 'arm.yaml'), str(folder / 'see.yaml')


@pytest.fixture
def env(names: tuple[str, str]) -> Iterator[SimEnv]:
    env = SimEnv(*names)
    yield env
    env.close()


def test_an_observation_is_a_dictionary(env: SimEnv) -> None:
    space = env.observation_space
    assert isinstance(space, gymnasium.spaces.Dict)
    assert {name: (box.shape, str(box.dtype)) for name, box in space.items()} == {
        'observation': (env.contract.observation.shape, 'float32'),
        'picture_wrist': ((32, 32, 3), 'uint8'), 'picture_front': ((48, 64, 3), 'uint8')}
    check_env(env, skip_render_check=True)


def test_pictures_are_those_of_the_camera_at_its_rate(env: SimEnv) -> None:
    task = env.task
    view = make_view(task.robot)
    try:
        seen = []
        observation, _ = env.reset(seed=3)
        for step in range(12):
            state = env._state
            for sight in task.sights:
                if step % sight.stride:
                    np.testing.assert_array_equal(observation[sight.spec.input],
                                                  seen[-1][sight.spec.input])
                    continue
                view.show(state, np.zeros(3))
                mount = CameraMount(sight.camera, task.robot.urdf, task.robot.joint_names)
                expected = sight.reduction()(view.look(sight.camera, *mount.pose(state))[0])
                np.testing.assert_array_equal(observation[sight.spec.input], expected)
            seen.append(observation)
            observation, *_ = env.step(np.full(6, 0.5, np.float32))
    finally:
        view.close()
    assert [sight.stride for sight in task.sights] == [5, 1]
    for name, least in (('picture_wrist', 3), ('picture_front', 10)):
        assert len({row[name].tobytes() for row in seen}) >= least


def test_the_rest_is_as_without_pictures(names: tuple[str, str], env: SimEnv) -> None:
    plain = SimEnv(names[0], 'reach')
    try:
        one, _ = env.reset(seed=5)
        other, _ = plain.reset(seed=5)
        for step in range(10):
            np.testing.assert_array_equal(one['observation'], other)
            action = np.full(6, np.sin(step), np.float32)
            one, reward, *_ = env.step(action)
            other, expected, *_ = plain.step(action)
            assert reward == expected
    finally:
        plain.close()


def test_who_takes_no_pictures_says_so(names: tuple[str, str], env: SimEnv) -> None:
    for make, what in ((lambda: SimVectorEnv(2, *names), 'a vector environment'),
                       (lambda: RosEnv(*names), 'RosEnv')):
        with pytest.raises(ConfigError, match=f'task see observes pictures, which {what} does'):
            make()
    word = r'observes picture_wrist uint8\[32, 32, 3\].*the learners here take a flat Box'
    with pytest.raises(TrainingError, match=word):
        contract_of(env, 'see')
    with pytest.raises(TrainingError, match=word):
        make_learner(load_settings('sac'), env.contract, 0)
