# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Simulators against physics on paper, and against each other."""

from collections.abc import Callable
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from rl_nodes.backends import BACKENDS
from rl_nodes.backends.base import SimulatedRobot
from rl_nodes.core.robot import load_robot, RobotModel
from rl_nodes.core.rotations import rotation_about
from rl_nodes.core.types import Start

NOWHERE = np.zeros(3)
Opener = Callable[..., SimulatedRobot]

every_backend = pytest.mark.parametrize('backend', BACKENDS)


@every_backend
def test_measured_effort_at_rest_is_the_weight(opened: Opener, backend: str) -> None:
    """Statics: the effort at a joint is the slope of the potential energy."""
    model = load_robot('arm')
    robot = opened(backend, model)
    position = model.home + np.array([0.3, 0.9, -0.6, 0.2, 0.4, 0.0])
    robot.reset(Start(position, NOWHERE))
    for _ in range(60):
        robot.write(position)
        robot.step()
    expected = [(potential(model, position + step) - potential(model, position - step)) / 2e-5
                for step in 1e-5 * np.eye(len(position))]
    assert max(np.abs(expected)) > 1.0
    np.testing.assert_allclose(robot.read().effort, expected, atol=0.02)


def potential(model: RobotModel, q: np.ndarray) -> float:
    """Return the arm's energy in the field of gravity [J], from the URDF alone."""
    angles = dict(zip(model.joint_names, q))
    height = {'base_link': (np.zeros(3), np.eye(3))}
    for joint in model.urdf.joints.values():  # parents come first in the file
        origin, frame = height[joint.parent]
        turn = rotation_about(joint.axis, angles[joint.name]) if joint.name in angles \
            else np.eye(3)
        height[joint.child] = (origin + frame @ joint.offset, frame @ joint.rotation @ turn)
    energy = 0.0
    for link in ElementTree.parse(model.urdf.path).getroot().findall('link'):
        origin, frame = height[link.get('name')]
        inertial = link.find('inertial')
        center = np.array([float(x) for x in inertial.find('origin').get('xyz').split()])
        energy += 9.81 * float(inertial.find('mass').get('value')) * (origin + frame @ center)[2]
    return energy


def swing(robot: SimulatedRobot, model: RobotModel, seconds: float) -> np.ndarray:
    """Return (time step, joint) positions and velocities of a cartpole left to itself."""
    robot.reset(Start(np.array([0.0, 2.6]), NOWHERE))  # 0.54 rad from hanging down
    rows = []
    for _ in range(round(seconds * model.config.rate_hz)):
        robot.hold()
        robot.step()
        measured = robot.read()
        rows.append([*measured.position, *measured.velocity])
    return np.array(rows)


@every_backend
def test_an_upright_pole_falls_when_nobody_cares(opened: Opener, backend: str) -> None:
    model = load_robot('cartpole')
    robot = opened(backend, model)
    robot.reset(Start(np.array([0.0, 0.05]), NOWHERE))
    for _ in range(60):
        robot.hold()
        robot.step()
    assert robot.read().position[1] > 0.5


@every_backend
def test_the_pole_swings_with_the_period_and_energy_of_physics(opened: Opener,
                                                               backend: str) -> None:
    """
    Compare with the equations of a free cart and pole.

    Small oscillation around hanging down: ω² = m g l / (I + m l² - (m l)² / (M + m)); at an
    amplitude of 0.54 rad the period is about 2 % longer. Damping takes a part of the energy.
    """
    mass, cart, arm, inertia = 0.15, 1.0, 0.3, 0.004508
    effective = inertia + mass * arm ** 2 - (mass * arm) ** 2 / (cart + mass)
    period = 2 * np.pi / np.sqrt(mass * 9.81 * arm / effective)
    model = load_robot('cartpole')
    rows = swing(opened(backend, model), model, 4.0)
    angle = rows[:, 1] - np.pi
    rising = np.flatnonzero((angle[:-1] < 0) & (angle[1:] >= 0))
    crossings = [k - angle[k] / (angle[k + 1] - angle[k]) for k in rising]
    measured = np.diff(crossings).mean() / model.config.rate_hz
    assert measured == pytest.approx(period, rel=0.04)

    def energy(row: np.ndarray) -> float:
        _, theta, v, w = row
        return (0.5 * (cart + mass) * v ** 2 + mass * arm * np.cos(theta) * v * w
                + 0.5 * (inertia + mass * arm ** 2) * w ** 2
                + mass * 9.81 * arm * (np.cos(theta) + 1))

    energies = [energy(row) for row in rows]
    assert max(energies) <= energies[0] * 1.03
    assert energies[-1] >= energies[0] * 0.7


def test_the_backends_swing_alike(opened: Opener) -> None:
    """Over 0.5 s the free pole differs by less than 0.03 rad and the cart by less than 5 mm."""
    model = load_robot('cartpole')
    first, second = (swing(opened(backend, model), model, 0.5) for backend in BACKENDS)
    assert np.abs(first[:, 1] - second[:, 1]).max() < 0.03
    assert np.abs(first[:, 0] - second[:, 0]).max() < 0.005


def test_the_backends_position_drives_behave_alike(opened: Opener) -> None:
    """Over 1 s of the same absolute targets no joint differs by more than 0.1 rad."""
    model = load_robot('arm')
    tracks = []
    for backend in BACKENDS:
        robot = opened(backend, model)
        robot.reset(Start(model.home, NOWHERE))
        rows = []
        for k in range(50):
            target = model.home + 0.2 * np.sin(2 * np.pi * k / 50 * np.array([1, 1, 1, 1, 2, 2]))
            robot.write(target)
            robot.step()
            rows.append(robot.read().position)
        tracks.append(np.array(rows))
    assert np.abs(tracks[0] - tracks[1]).max() < 0.1
