# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A policy that is added to a controller: the sum, its inverse, the contract, whole episodes."""

from pathlib import Path

import numpy as np
import pytest
from rl_nodes.control.controllers import make_controller
from rl_nodes.core.config import read_yaml
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import find_config
from rl_nodes.core.robot import load_robot
from rl_nodes.core.types import RobotState
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.tasks import load_task
from rl_nodes.tasks.base import Task
import yaml

RESIDUAL = 'cartpole_balance_residual'


def with_action(folder: Path, robot: str, task: str, **action: object) -> Task:
    data = read_yaml(find_config('tasks', task))
    data['action'] = {**data['action'], **action}
    path = folder / f'{task}.yaml'
    path.write_text(yaml.safe_dump(data))
    return load_task(robot, str(path))


def states(robot: str, count: int = 20) -> list[RobotState]:
    model, rng = load_robot(robot), np.random.default_rng(0)
    return [RobotState(i, '1@0', model.home + rng.uniform(-0.1, 0.1, len(model.home)),
                       rng.uniform(-0.1, 0.1, len(model.home)), np.zeros(len(model.home)))
            for i in range(count)]


@pytest.mark.parametrize(('robot', 'task', 'kind'), [
    ('arm', 'reach', 'hold'), ('arm', 'reach', 'pd'), ('cartpole', 'cartpole_balance', 'hold'),
    ('cartpole', 'cartpole_balance', 'pd'), ('cartpole', 'cartpole_balance', 'lqr')])
def test_nothing_added_leaves_the_controller(tmp_path: Path, robot: str, task: str,
                                             kind: str) -> None:
    residual = with_action(tmp_path, robot, task, residual_of=kind)
    controller = make_controller(kind, residual.robot)
    nothing = np.zeros(len(residual.robot.commanded), np.float32)
    for state in states(robot):
        command = residual.command(state, nothing)
        np.testing.assert_array_equal(command, controller.command(state))
        np.testing.assert_array_equal(residual.to_action(state, command), nothing)
        np.testing.assert_array_equal(residual.hold_command(state),
                                      load_task(robot, task).hold_command(state))


def test_the_sum_its_inverse_and_its_limit() -> None:
    task = load_task('cartpole', RESIDUAL)
    lqr, rng = make_controller('lqr', task.robot), np.random.default_rng(1)
    for state in states('cartpole'):
        action = rng.uniform(-1, 1, 1).astype(np.float32)
        command = task.command(state, action)
        # 0.25 · 20 N
        np.testing.assert_allclose(command, lqr.command(state) + 5.0 * float(action[0]))
        np.testing.assert_allclose(task.to_action(state, command), action, atol=1e-6)
        np.testing.assert_array_equal(task.command(state, action * 0 + 7),
                                      task.command(state, action * 0 + 1))
    far = RobotState(0, '1@0', np.array([0.0, 0.4]), np.zeros(2), np.zeros(2))
    np.testing.assert_array_equal(task.command(far, np.ones(1, np.float32)), [20.0])


def test_residual_of_hold_is_a_step_from_the_present_position(tmp_path: Path) -> None:
    plain, residual = load_task('arm', 'reach'), with_action(tmp_path, 'arm', 'reach',
                                                             residual_of='hold')
    for state in states('arm'):
        action = np.linspace(-1, 1, 6).astype(np.float32)
        np.testing.assert_allclose(residual.command(state, action), plain.command(state, action),
                                   rtol=0, atol=1e-15)


def test_the_contract_tells_controllers_and_their_numbers_apart(tmp_path: Path) -> None:
    plain = load_task('cartpole', 'cartpole_balance').contract
    assert plain.action_kind == 'joint_effort'
    kinds = {plain.action_kind, *(
        with_action(tmp_path, 'cartpole', 'cartpole_balance', residual_of=kind)
        .contract.action_kind for kind in ('hold', 'pd', 'lqr'))}
    assert len(kinds) == 4
    label = make_controller('lqr', load_robot('cartpole')).label
    assert f'joint_effort on {label}' in kinds


@pytest.mark.parametrize(('robot', 'task', 'kind', 'message'), [
    ('arm', 'reach', 'lqr', 'controllers.lqr is missing'),
    ('rover', 'navigate', 'pd', 'planar_velocity does not; use joint_velocity'),
    ('arm', 'reach', 'pid', 'residual_of')])
def test_controllers_that_cannot_be_had_are_refused(tmp_path: Path, robot: str, task: str,
                                                    kind: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_action(tmp_path, robot, task, residual_of=kind)


@pytest.mark.parametrize('backend', ['pybullet', 'mujoco'])
def test_the_lqr_alone_balances_every_episode(backend: str) -> None:
    env = SimEnv('cartpole', RESIDUAL, backend)
    nothing = np.zeros(1, np.float32)
    for seed in range(10):
        env.reset(seed=seed)
        ended = success = False
        while not ended:
            _, _, terminated, truncated, info = env.step(nothing)
            ended, success = terminated or truncated, info['success']
            assert not info['limited']
        assert success, f'seed {seed}'
    env.close()
