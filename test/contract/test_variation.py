# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What every simulator must do with a robot that varies, and what disturbs it on the way."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from rl_nodes.backends import BACKENDS
from rl_nodes.backends.base import Measurement, SimulatedRobot
from rl_nodes.backends.disturbed_robot import Pusher
from rl_nodes.core.errors import BackendError
from rl_nodes.core.robot import load_robot, RobotModel
from rl_nodes.core.types import Start
from rl_nodes.core.variation import Disturbance, Physics, Push, Variation

NOWHERE = np.zeros(3)
Opener = Callable[..., SimulatedRobot]

every_backend = pytest.mark.parametrize('backend', BACKENDS)
every_robot = pytest.mark.parametrize('name', ('arm', 'cartpole', 'quadruped'))


def physics_of(model: RobotModel, **changes) -> Physics:
    joints = len(model.joints)
    nominal = Physics(np.ones(1 + joints), np.ones(joints), np.ones(len(model.commanded)))
    return replace(nominal, **changes)


def varied(model: RobotModel, position: np.ndarray | None = None, physics: Physics | None = None,
           **disturbance) -> Start:
    """Return a start with a variation."""
    return Start(model.home if position is None else position, NOWHERE, variation=Variation(
        1.0, {}, physics, Disturbance(7, **disturbance) if disturbance else None))


def flat(measured: Measurement) -> np.ndarray:
    base = measured.base
    return np.concatenate([*measured[:3]] + ([] if base is None else [
        base.position, base.orientation, base.linear_velocity, base.angular_velocity]))


def drive(robot: SimulatedRobot, model: RobotModel, start: Start, steps: int = 60) -> list[bytes]:
    """Return the bits of everything measured under the same commands."""
    rng = np.random.default_rng(3)
    robot.reset(start)
    rows = [flat(robot.read()).tobytes()]
    home = model.home[model.commanded]
    for _ in range(steps):
        noise = rng.uniform(-1, 1, len(home))
        effort = model.config.control_mode == 'effort'
        robot.write(noise * model.limits('effort') if effort else home + 0.1 * noise)
        robot.step()
        rows.append(flat(robot.read()).tobytes())
    return rows


# --- physics ----------------------------------------------------------------------------------

@every_backend
@every_robot
def test_the_next_reset_restores_every_bit(opened: Opener, backend: str, name: str) -> None:
    model = load_robot(name)
    robot, fresh = opened(backend, model), opened(backend, model)
    plain, other = Start(model.home, NOWHERE), varied(model, physics=physics_of(
        model, mass=np.linspace(0.6, 1.7, 1 + len(model.joints)), friction=0.4, gravity=1.3,
        damping=np.full(len(model.joints), 3.0), strength=np.full(len(model.commanded), 0.7)))
    expected = drive(robot, model, plain)
    different = drive(robot, model, other)
    assert different != expected
    assert drive(robot, model, plain) == expected
    assert drive(robot, model, other) == different
    assert drive(fresh, model, other) == different, 'what came before must not matter'


@every_backend
@every_robot
def test_multiples_of_one_change_nothing_to_speak_of(opened: Opener, backend: str,
                                                     name: str) -> None:
    model = load_robot(name)
    robot = opened(backend, model)
    plain = drive(robot, model, Start(model.home, NOWHERE), 10)
    ones = drive(robot, model, varied(model, physics=physics_of(model)), 10)
    np.testing.assert_allclose(np.frombuffer(plain[-1]), np.frombuffer(ones[-1]), atol=1e-5)


def fallen(robot: SimulatedRobot, model: RobotModel, physics: Physics) -> float:
    """Return the angle that an upright pole, left to itself, has fallen to after 0.4 s."""
    robot.reset(varied(model, np.array([0.0, 0.05]), physics))
    for _ in range(20):
        robot.hold()
        robot.step()
    return float(robot.read().position[1])


@every_backend
def test_gravity_mass_and_damping_act_as_physics_says(opened: Opener, backend: str) -> None:
    model = load_robot('cartpole')
    robot = opened(backend, model)
    plain = fallen(robot, model, physics_of(model))
    assert fallen(robot, model, physics_of(model, gravity=1.5)) > 1.1 * plain
    assert fallen(robot, model, physics_of(model, gravity=0.0)) == pytest.approx(0.05, abs=1e-3)
    # Whether all masses are doubled a free pole cannot tell, but for its damping.
    heavy = fallen(robot, model, physics_of(model, mass=np.full(3, 2.0)))
    assert heavy == pytest.approx(plain, rel=0.03)
    damped = fallen(robot, model, physics_of(model, damping=np.array([1.0, 50.0])))
    assert damped < 0.95 * plain


@every_backend
@pytest.mark.parametrize(('changes', 'factor'), [
    ({'strength': np.array([0.5])}, 0.5), ({'mass': np.array([1.0, 2.0, 2.0])}, 0.5),
    ({'strength': np.array([1.5])}, 1.5)])
def test_a_cart_accelerates_by_strength_over_mass(opened: Opener, backend: str, changes: dict,
                                                  factor: float) -> None:
    model = load_robot('cartpole')
    robot = opened(backend, model)
    speeds = []
    for physics in (physics_of(model), physics_of(model, **changes)):
        robot.reset(varied(model, physics=physics))
        sent = robot.write(np.array([1e3]))
        np.testing.assert_array_equal(sent, model.limits('effort'))
        robot.step()
        measured = robot.read()
        speeds.append(measured.velocity[0])
        limit = model.limits('effort') * physics.strength
        np.testing.assert_allclose(measured.effort[0], limit[0], rtol=1e-9)
    assert speeds[1] / speeds[0] == pytest.approx(factor, rel=0.02)


@every_backend
def test_slippery_feet_slide(opened: Opener, backend: str) -> None:
    """A robot started with a sideways speed stops by friction alone."""
    model = load_robot('quadruped')
    robot = opened(backend, model)
    base = replace(model.home_base, linear_velocity=np.array([0.0, 0.6, 0.0]))
    slid = []
    for friction in (1.0, 0.1):
        robot.reset(replace(varied(model, physics=physics_of(model, friction=friction)),
                            base=base))
        for _ in range(round(0.5 * model.config.rate_hz)):
            robot.write(model.home)
            robot.step()
        slid.append(float(robot.read().base.position[1]))
    assert slid[1] > slid[0] + 0.05


@every_backend
def test_a_push_changes_the_momentum_by_its_impulse(opened: Opener, backend: str) -> None:
    model = load_robot('quadruped')
    robot = opened(backend, model)
    still = physics_of(model, gravity=0.0)
    base = replace(model.home_base, position=np.array([0.0, 0.0, 2.0]))
    robot.reset(replace(varied(model, physics=still), base=base))
    impulse = np.array([3.0, -1.0, 0.0])
    robot.push(0, impulse * model.config.rate_hz / 5)
    for k in range(10):
        if k == 5:
            robot.push(0, NOWHERE)
        robot.write(model.home)
        robot.step()
    mass = 12.0  # see config/robots/quadruped.yaml; legs swing along, so the base is a little off
    moved = robot.read().base.linear_velocity * mass
    np.testing.assert_allclose(moved[:2], impulse[:2], atol=0.6)
    robot.reset(Start(model.home, NOWHERE, base))
    robot.step()
    assert abs(robot.read().base.linear_velocity[:2]).max() < 1e-6, 'a reset ends every push'


# --- disturbances -----------------------------------------------------------------------------

@every_backend
@every_robot
def test_without_a_disturbance_a_disturbed_robot_is_the_robot(opened: Opener, backend: str,
                                                              name: str) -> None:
    model = load_robot(name)
    start = Start(model.home, NOWHERE)
    expected = drive(opened(backend, model), model, start)
    wrapped = opened(backend, model, disturbed=True)
    assert drive(wrapped, model, start) == expected
    disturbed = varied(model, action_delay=0.5, observation_delay=0.25,
                       noise={'joint_position': 0.01}, push=Push(1, 0.2, 0.05, 0.04))
    different = drive(wrapped, model, disturbed)
    assert different != expected
    assert drive(wrapped, model, start) == expected
    assert drive(wrapped, model, disturbed) == different


@every_backend
@pytest.mark.parametrize('delay', [0.0, 0.25, 1.0, 1.5, 3.0])
def test_a_command_takes_effect_when_it_is_due(opened: Opener, backend: str,
                                               delay: float) -> None:
    """Compare with a robot driven by hand, physics step by physics step."""
    model = load_robot('cartpole')
    size = round(model.config.simulation.physics_hz / model.config.rate_hz)
    late = round(delay * size)
    robot, reference = opened(backend, model, disturbed=True), opened(backend, model)
    robot.reset(varied(model, action_delay=delay))
    reference.reset(Start(model.home, NOWHERE))
    efforts = np.random.default_rng(1).uniform(-1, 1, 12) * model.limits('effort')[0]
    for k, effort in enumerate(efforts):
        robot.write(np.array([effort]))
        robot.step()
        for substep in range(k * size, (k + 1) * size):
            if substep >= late and (substep - late) % size == 0:
                reference.write(efforts[(substep - late) // size, None])
            reference.step(1)
        np.testing.assert_array_equal(robot.read().position, reference.read().position)


@every_backend
@pytest.mark.parametrize('delay', [0.25, 1.0, 1.5])
def test_a_measurement_is_as_old_as_its_delay(opened: Opener, backend: str, delay: float) -> None:
    model = load_robot('cartpole')
    size = round(model.config.simulation.physics_hz / model.config.rate_hz)
    old = round(delay * size)
    robot, reference = opened(backend, model, disturbed=True), opened(backend, model)
    robot.reset(varied(model, observation_delay=delay))
    reference.reset(Start(model.home, NOWHERE))
    history = [flat(reference.read())]
    for k in range(12):
        for each in (robot, reference):
            each.write(np.array([5.0]))
        robot.step()
        for _ in range(size):
            reference.step(1)
            history.append(flat(reference.read()))
        np.testing.assert_array_equal(flat(robot.read()), history[max(0, (k + 1) * size - old)])


@every_backend
def test_noise_has_its_deviation_and_leaves_the_physics_alone(opened: Opener,
                                                              backend: str) -> None:
    model = load_robot('quadruped')
    noise = {'joint_position': 0.01, 'joint_velocity': 0.2, 'base_position': 0.02,
             'base_orientation': 0.05, 'base_linear_velocity': 0.1, 'base_angular_velocity': 0.3}
    robot, reference = opened(backend, model, disturbed=True), opened(backend, model)
    robot.reset(varied(model, noise=noise))
    reference.reset(Start(model.home, NOWHERE))
    errors: dict[str, list[np.ndarray]] = {name: [] for name in noise}
    for _ in range(150):
        for each in (robot, reference):
            each.write(model.home)
            each.step()
        blurred, true = robot.read(), reference.read()
        assert robot.read() is blurred, 'reading twice is measuring once'
        errors['joint_position'].append(blurred.position - true.position)
        errors['joint_velocity'].append(blurred.velocity - true.velocity)
        errors['base_position'].append(blurred.base.position - true.base.position)
        errors['base_orientation'].append(2 * blurred.base.orientation[:3]
                                          - 2 * true.base.orientation[:3])
        errors['base_linear_velocity'].append(
            blurred.base.linear_velocity - true.base.linear_velocity)
        errors['base_angular_velocity'].append(
            blurred.base.angular_velocity - true.base.angular_velocity)
        assert np.linalg.norm(blurred.base.orientation) == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_array_equal(blurred.effort, true.effort)
    for name, deviation in noise.items():
        assert np.std(errors[name]) == pytest.approx(deviation, rel=0.15), name
        assert abs(np.mean(errors[name])) < 0.2 * deviation, name


@every_backend
def test_a_disturbed_robot_refuses_explodes_and_recovers_like_any_other(opened: Opener,
                                                                        backend: str) -> None:
    model = load_robot('cartpole')
    robot = opened(backend, model, disturbed=True)
    start = varied(model, action_delay=0.5, observation_delay=1.5)
    expected = drive(robot, model, start)
    with pytest.raises(BackendError, match='1 finite values'):
        robot.write(np.array([np.nan]))
    np.testing.assert_array_equal(robot.write(np.array([1e3])), model.limits('effort'))
    robot.reset(replace(start, position=np.full(2, np.nan)))
    for _ in range(3):
        robot.step()
    with pytest.raises(BackendError, match='exploded'):
        robot.read()
    robot.recover()
    assert drive(robot, model, start) == expected


@every_backend
def test_a_hold_is_at_once_and_voids_what_is_on_its_way(opened: Opener, backend: str) -> None:
    model = load_robot('cartpole')
    robot = opened(backend, model, disturbed=True)
    robot.reset(varied(model, action_delay=2.0))
    robot.write(np.array([10.0]))
    robot.step()
    robot.hold()
    for _ in range(4):
        robot.step()
    assert robot.read().velocity[0] == pytest.approx(0.0, abs=1e-6)


def test_pushes_come_once_per_interval_and_from_every_side() -> None:
    pusher = Pusher(Push(0, 0.5, 3.0, 0.1), np.random.default_rng(0), 0.02)
    forces, present = [], np.zeros(3)
    for _ in range(25 * 100):
        present = present if (change := pusher.next()) is None else change
        forces.append(present)
    rows = np.array(forces).reshape(100, 25, 3)
    pushed = (rows != 0).any(axis=2)
    assert (pushed.sum(axis=1) == 5).all(), '0.1 s of every 0.5 s'
    np.testing.assert_allclose(np.linalg.norm(rows.sum(axis=1) * 0.02, axis=1), 3.0)
    sides = np.arctan2(rows.sum(axis=1)[:, 1], rows.sum(axis=1)[:, 0])
    assert sides.min() < -2.0 and sides.max() > 2.0
    assert len({int(np.flatnonzero(row)[0]) for row in pushed}) > 10, 'at random times'
    silent = Pusher(Push(0, 0.5, 0.0, 0.1), np.random.default_rng(0), 0.02)
    assert all(silent.next() is None for _ in range(100))
