# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every registered environment must do: Gymnasium's own check, determinism, recovery."""

import gymnasium
from gymnasium.utils.env_checker import check_env
import numpy as np
import pytest

from rl_nodes.backends import make_robot
from rl_nodes.core.errors import BackendError, ConfigError
from rl_nodes.core.robot import load_robot
from rl_nodes.envs import ENVIRONMENTS

IDS = list(ENVIRONMENTS)


def trajectory(env: gymnasium.Env, seed: int, steps: int) -> list:
    """Return everything that random actions give, over as many episodes as it takes."""
    rng = np.random.default_rng(seed)
    rows = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        observation, reward, terminated, truncated, info = env.step(action)
        rows.append((observation, reward, terminated, truncated, info))
        if terminated or truncated:
            rows.append(env.reset()[0])
    return rows


def assert_same_bits(a: list, b: list) -> None:
    for x, y in zip(a, b, strict=True):
        if isinstance(x, tuple):
            assert x[0].tobytes() == y[0].tobytes()
            assert x[1:] == y[1:]
        else:
            assert x.tobytes() == y.tobytes()


@pytest.mark.filterwarnings('ignore:.*A Box observation space:UserWarning')
@pytest.mark.parametrize('env_id', IDS)
def test_gymnasium_check(env_id: str) -> None:
    env = gymnasium.make(env_id, render_mode='rgb_array')
    check_env(env.unwrapped)
    env.reset(seed=0)
    assert env.render().shape == (480, 640, 3)
    env.close()


@pytest.mark.parametrize('env_id', IDS)
def test_same_seed_same_bits_in_a_fresh_and_in_a_used_environment(env_id: str) -> None:
    first, second = gymnasium.make(env_id), gymnasium.make(env_id)
    expected = trajectory(first, 3, 250)
    assert_same_bits(expected, trajectory(second, 3, 250))
    trajectory(first, 8, 60)
    assert_same_bits(expected, trajectory(first, 3, 250))


def test_step_before_reset_is_refused() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        gymnasium.make(IDS[0]).unwrapped.step(np.zeros(6, np.float32))


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_command_that_is_not_finite_never_reaches_the_simulator(value: float) -> None:
    env = gymnasium.make(IDS[0]).unwrapped
    env.reset(seed=0)
    action = np.zeros(6, np.float32)
    action[2] = value
    observation, _, _, _, info = env.step(action)
    assert np.isfinite(observation).all()
    assert info['limited'] or value == np.inf  # infinity is clipped to a full step
    robot = make_robot('pybullet', load_robot('arm'))
    with pytest.raises(BackendError, match='finite'):
        robot.write(np.full(6, value))
    with pytest.raises(BackendError, match='6 finite values'):
        robot.write(np.zeros(5))
    assert np.isfinite(robot.read().position).all()
    robot.close()
    robot.close()


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'pybullet'"):
        make_robot('pybulet', load_robot('arm'))


def test_exploded_simulation_is_noticed_and_cured() -> None:
    import pybullet
    model = load_robot('arm')
    robot = make_robot('pybullet', model)
    robot.reset(model.home, np.zeros(3))
    pybullet.resetJointState(robot._body, robot._joints[0], float('nan'),
                             physicsClientId=robot._client)
    with pytest.raises(BackendError, match='exploded'):
        robot.read()
    robot.recover()
    robot.reset(model.home, np.zeros(3))
    robot.step()
    np.testing.assert_allclose(robot.read().position, model.home, atol=1e-3)
    robot.close()


def test_holding_robot_stays_where_it_is() -> None:
    model = load_robot('arm')
    robot = make_robot('pybullet', model)
    robot.reset(model.home, np.zeros(3))
    for _ in range(100):
        robot.hold()
        robot.step()
    np.testing.assert_allclose(robot.read().position, model.home, atol=5e-3)
    robot.close()
