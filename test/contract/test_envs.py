# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every registered environment must do: Gymnasium's own check, determinism, refusals."""

from collections.abc import Callable

import gymnasium
from gymnasium.utils.env_checker import check_env
import numpy as np
import pytest
from rl_nodes.backends import BACKENDS
from rl_nodes.envs import ENVIRONMENTS
from rl_nodes.envs.sim_env import SimEnv

IDS = list(ENVIRONMENTS)
every_environment = pytest.mark.parametrize('env_id', IDS)
every_backend = pytest.mark.parametrize('backend', BACKENDS)


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
            assert x[1:4] == y[1:4]
            assert {name: np.asarray(value).tobytes() for name, value in x[4].items()} == {
                name: np.asarray(value).tobytes() for name, value in y[4].items()}
        else:
            assert x.tobytes() == y.tobytes()


@pytest.mark.filterwarnings('ignore:.*A Box observation space:UserWarning')
@every_backend
@every_environment
def test_gymnasium_check(env_id: str, backend: str) -> None:
    env = gymnasium.make(env_id, backend=backend, render_mode='rgb_array')
    check_env(env.unwrapped)
    env.reset(seed=0)
    assert env.render().shape == (480, 640, 3)
    env.close()


@every_backend
@every_environment
def test_same_seed_same_bits_in_a_fresh_and_in_a_used_environment(env_id: str,
                                                                  backend: str) -> None:
    first, second = (gymnasium.make(env_id, backend=backend) for _ in range(2))
    expected = trajectory(first, 3, 250)
    assert_same_bits(expected, trajectory(second, 3, 250))
    trajectory(first, 8, 60)
    assert_same_bits(expected, trajectory(first, 3, 250))


def test_step_before_reset_is_refused() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        gymnasium.make(IDS[0]).unwrapped.step(np.zeros(6, np.float32))


@every_backend
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_an_action_that_is_not_finite_never_reaches_the_simulator(value: float,
                                                                  backend: str) -> None:
    env = gymnasium.make(IDS[0], backend=backend).unwrapped
    env.reset(seed=0)
    action = np.zeros(6, np.float32)
    action[2] = value
    observation, _, _, _, info = env.step(action)
    assert np.isfinite(observation).all()
    assert info['limited'] or value == np.inf  # infinity is clipped to a full step
    env.close()


def test_an_effort_moves_the_cart_alike_in_both_simulators() -> None:
    moved = []
    for backend in ('pybullet', 'mujoco'):
        env = SimEnv('cartpole', 'cartpole_balance', backend)
        env.reset(seed=0)
        before = env._state.velocity
        for _ in range(3):
            env.step(np.array([0.5], np.float32))
        moved.append(env._state.velocity - before)
        env.close()
    np.testing.assert_allclose(*moved, rtol=0.01)


def towards(env: gymnasium.Env) -> np.ndarray:
    """Return the action of damped least squares: Δq = Jᵀ (J Jᵀ + λ² I)⁻¹ (goal - tool)."""
    chain, state = env.task.robot.chain, env._state
    tool = chain.tip(state.position)[0]
    jacobian = np.stack([(chain.tip(state.position + step)[0] - tool) / 1e-6
                         for step in 1e-6 * np.eye(len(state.position))], axis=1)
    error = env._goal.position - tool
    change = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 0.05 ** 2 * np.eye(3), error)
    largest = env.task.robot.limits('velocity') / env.task.robot.config.rate_hz
    return (change / max(1.0, np.abs(change / largest).max()) / largest).astype(np.float32)


@every_backend
def test_a_scripted_policy_reaches(backend: str,
                                   require_backend: Callable[[str], None]) -> None:
    """The same policy, which knows the kinematics only, succeeds in every simulator."""
    require_backend(backend)
    env = gymnasium.make('rl_nodes/Reach-v0', backend=backend).unwrapped
    successes = []
    for seed in range(20):
        env.reset(seed=seed)
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(towards(env))
            over = terminated or truncated
        successes.append(info['success'])
    env.close()
    assert np.mean(successes) >= 0.95
