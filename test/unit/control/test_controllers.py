# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Hold, PD and LQR: what they command, what they refuse, and that the LQR's gain is right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rl_nodes.backends import make_robot
from rl_nodes.cli import main
from rl_nodes.control.controllers import make_controller, Reach
from rl_nodes.control.lqr import design, gain_of, linearise, LinearModel
from rl_nodes.core.config import read_yaml
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import find_config, find_urdf
from rl_nodes.core.robot import load_robot, RobotModel
from rl_nodes.core.types import RobotState
import yaml

ARM, CARTPOLE, ROVER = (load_robot(name) for name in ('arm', 'cartpole', 'rover'))


def state(robot: RobotModel, position: np.ndarray | list, velocity: float = 0.0) -> RobotState:
    return RobotState(0, '1@0', np.asarray(position, np.float64),
                      np.full(len(robot.joints), velocity), np.zeros(len(robot.joints)))


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., RobotModel]:
    """Return a robot with another section ``controllers``."""
    def make(name: str, **controllers: dict) -> RobotModel:
        path = find_config('robots', name)
        data = read_yaml(path) | {'controllers': controllers}
        data['urdf'] = str(find_urdf(data['urdf'], path))
        target = tmp_path / f'{name}.yaml'
        target.write_text(yaml.safe_dump(data))
        return load_robot(str(target))
    return make


def test_hold_is_the_present_position_or_nothing() -> None:
    there = ARM.home + 0.1
    np.testing.assert_array_equal(make_controller('hold', ARM).command(state(ARM, there)), there)
    for robot in (CARTPOLE, ROVER):
        command = make_controller('hold', robot).command(state(robot, robot.home + 0.3, 1.0))
        np.testing.assert_array_equal(command, np.zeros(len(robot.commanded)))


def test_pd_of_positions_goes_home_at_most_at_the_speed_limit() -> None:
    pd, reach = make_controller('pd', ARM), ARM.limits('velocity') / ARM.config.rate_hz
    near = ARM.home + 0.5 * reach
    np.testing.assert_allclose(pd.command(state(ARM, near)), ARM.home, atol=1e-12)
    far = ARM.home + 10 * reach
    np.testing.assert_allclose(pd.command(state(ARM, far)), far - reach, atol=1e-12)


def test_pd_of_efforts_is_a_spring_and_a_damper_up_to_the_limit(
        edited: Callable[..., RobotModel]) -> None:
    robot = edited('cartpole', pd={'pose': [0.5], 'stiffness': [10.0], 'damping': [2.0]})
    pd = make_controller('pd', robot)
    # 10 · (0.5 - 0.2) - 2 · 0.25 = 2.5
    np.testing.assert_allclose(pd.command(state(robot, [0.2, 0.0], 0.25)), [2.5])
    np.testing.assert_allclose(pd.command(state(robot, [-9.0, 0.0])), [20.0])
    usual = make_controller('pd', CARTPOLE)  # full effort (20 N) at 1 m; at the limit of 6 m/s
    np.testing.assert_allclose(usual.command(state(CARTPOLE, [0.5, 0.0])), [-10.0])
    np.testing.assert_allclose(usual.command(state(CARTPOLE, [0.0, 0.0], 3.0)), [-10.0])


def test_lqr_is_minus_gain_times_error() -> None:
    lqr = make_controller('lqr', CARTPOLE)
    gain = np.array(CARTPOLE.config.controllers['lqr']['gain'][0])
    command = lqr.command(state(CARTPOLE, [0.1, -0.02], 0.05))
    np.testing.assert_allclose(command, [-gain @ [0.1, -0.02, 0.05, 0.05]])
    np.testing.assert_array_equal(lqr.command(state(CARTPOLE, [0.0, 1.0])), [20.0])


def test_a_label_tells_other_numbers(edited: Callable[..., RobotModel]) -> None:
    first = make_controller('pd', edited('arm', pd={'stiffness': [1.0] * 6})).label
    assert first == make_controller('pd', ARM).label  # its default
    assert first != make_controller('pd', edited('arm', pd={'stiffness': [0.5] * 6})).label


@pytest.mark.parametrize(('kind', 'controllers', 'message'), [
    ('lrq', {}, "unknown controller 'lrq' .did you mean 'lqr'.*hold, pd, lqr"),
    ('pd', {'pid': {}}, "unknown key 'pid' .did you mean 'pd'"),
    ('pd', {'pd': {'stifness': [1.0]}}, "unknown key 'stifness'.*did you mean 'stiffness'"),
    ('pd', {'pd': {'pose': [0.0, 0.0]}}, 'pd.pose: 2 values, expected one for each of slider'),
    ('pd', {'pd': {'damping': [-1.0]}}, 'damping'),
    ('lqr', {}, 'controllers.lqr is missing; give position_weight'),
    ('lqr', {'lqr': {'position_weight': [1, 1], 'velocity_weight': [1, 1],
                     'command_weight': [1]}}, 'has no gain; .*rl_nodes robot lqr cartpole'),
    ('lqr', {'lqr': {'position_weight': [1, 1], 'velocity_weight': [1, 1],
                     'command_weight': [1], 'gain': [[1, 2, 3]]}}, 'a row of 3 values'),
    ('lqr', {'lqr': {'position_weight': [1, 1], 'velocity_weight': [1, 1], 'command_weight': [1],
                     'gain': [[1, 2, 3, 4], [1, 2, 3, 4]]}}, '2 rows, expected one for each of'),
])
def test_wrong_controllers_are_refused(edited: Callable[..., RobotModel], kind: str,
                                       controllers: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_controller(kind, edited('cartpole', **controllers))


def test_riccati_of_a_scalar() -> None:
    # x' = x + u, Q = R = 1: P = 1 + P - P² / (1 + P), so P² = P + 1, K = P / (1 + P) = 1 / P
    one = np.ones((1, 1))
    gain = gain_of(LinearModel(one, one, np.zeros(1)), np.ones(1), np.ones(1))
    np.testing.assert_allclose(gain, [[2 / (1 + np.sqrt(5))]], rtol=1e-6)


def test_what_cannot_be_stabilised_is_refused() -> None:
    model = LinearModel(np.diag([2.0, 0.5]), np.array([[0.0], [1.0]]), np.zeros(1))
    with pytest.raises(ConfigError, match='no command stabilises'):
        gain_of(model, np.ones(2), np.ones(1))


@pytest.mark.parametrize('backend', ['pybullet', 'mujoco'])
def test_the_linear_model_predicts_the_simulator(backend: str) -> None:
    plant = make_robot(backend, CARTPOLE)
    a, _, resting = linearise(plant, CARTPOLE)
    plant.close()
    dt = 1 / CARTPOLE.config.rate_hz
    np.testing.assert_allclose(resting, [0.0], atol=1e-9)
    np.testing.assert_allclose(a[:2, 2:], np.eye(2) * dt, atol=0.03 * dt)  # positions integrate
    np.testing.assert_allclose(np.diag(a), 1.0, atol=0.01)
    assert a[3, 1] > 0.4  # the pole falls


def test_the_gain_in_the_configuration_is_the_one_that_is_computed() -> None:
    plant = make_robot('mujoco', CARTPOLE)
    gain, _, linear = design(plant, CARTPOLE)
    plant.close()
    np.testing.assert_allclose(CARTPOLE.config.controllers['lqr']['gain'], gain, rtol=1e-3)
    assert np.abs(np.linalg.eigvals(linear.state - linear.command @ gain)).max() < 0.97


def test_a_floating_base_is_refused() -> None:
    with pytest.raises(ConfigError, match='floating base'):
        linearise(None, load_robot('quadruped'))


@pytest.mark.parametrize('robot', [ARM, CARTPOLE, ROVER], ids=lambda robot: robot.name)
def test_reach_is_what_the_monitor_lets_pass(robot: RobotModel) -> None:
    from rl_nodes.safety.gate import checks_for, judge_values
    from rl_nodes.safety.verdict import Level
    reach, here = Reach(robot), state(robot, robot.home)
    for sign in (-1.0, 1.0):
        command = reach.within(here, np.full(len(robot.commanded), sign * 1e3))
        assert judge_values(checks_for(robot), command, here)[0] == Level.PASS


def test_the_command_prints_what_the_configuration_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['robot', 'lqr', 'cartpole', 'backend:=mujoco']) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed['command'] == [0.0]
    assert printed['gain'] == CARTPOLE.config.controllers['lqr']['gain']
    for words, message in (
            (['arm'], 'controllers.lqr is missing'),
            (['cartpole', 'backend:=mujco'], "unknown backend 'mujco' (did you mean 'mujoco'?)"),
            (['cartpole', 'output:=x'], 'robot lqr takes no output:=')):
        assert main(['robot', 'lqr', *words]) == 2
        assert message in capsys.readouterr().err
