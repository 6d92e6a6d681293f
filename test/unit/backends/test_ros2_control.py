# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Names and units of ros2_control to ours and back."""

import math

import msgspec
import numpy as np
import pytest
from rl_nodes.backends.hardware.ros2_control import (
    JointMap,
    JointMapping,
    ros2_control_config,
    Ros2ControlConfig,
)
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import load_robot


def mapping(**joints: JointMap) -> JointMapping:
    return JointMapping(load_robot('arm'), Ros2ControlConfig(
        controller='forward_command_controller', controller_name='c', joints=joints))


def changed(**settings):
    model = load_robot('arm')
    model.config = msgspec.structs.replace(model.config, **settings)
    return model


def test_one_joint_by_hand():
    """theirs = sign * gear * ours + offset: a quarter turn is -180 + 10 degrees."""
    found = mapping(elbow=JointMap(name='e', sign=-1, gear_ratio=2.0, offset=10.0, units='deg'))
    ours = np.zeros(6)
    ours[2] = math.pi / 2
    theirs = found.command(ours)
    assert theirs[2] == pytest.approx(-170.0)
    assert found.velocity(np.full(6, 90.0))[2] == pytest.approx(-math.pi / 4)
    assert found.effort(np.full(6, 3.0))[2] == pytest.approx(-6.0)
    assert found.names[2] == 'e'
    assert found.names[0] == 'shoulder_pan'
    # theirs from -1 to 3 rad: less 10 degrees, turned round and halved
    offset = math.radians(10)
    assert found.limits(2, -1.0, 3.0, 5.0) == pytest.approx(
        ((3 - offset) / -2, (-1 - offset) / -2, 2.5))
    assert found.limits(0, None, None, None) == (-math.inf, math.inf, math.inf)


def test_both_ways_is_where_we_were():
    rng = np.random.default_rng(0)
    names = load_robot('arm').joint_names
    for _ in range(50):
        found = mapping(**{name: JointMap(
            sign=int(rng.choice([-1, 1])), gear_ratio=float(rng.uniform(0.1, 50)),
            offset=float(rng.normal(0, 90)), units=str(rng.choice(['rad', 'deg'])))
            for name in names})
        q = rng.uniform(-3, 3, 6)
        np.testing.assert_allclose(found.position(found.command(q)), q, atol=1e-9)


def test_joints_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match='has ebow; joints: shoulder_pan'):
        mapping(ebow=JointMap())
    with pytest.raises(ConfigError, match='twice'):
        mapping(elbow=JointMap(name='shoulder_pan'))


def test_section():
    assert ros2_control_config(load_robot('arm')).command_topic == (
        '/forward_position_controller/commands')
    with pytest.raises(ConfigError, match='no section ros2_control'):
        ros2_control_config(changed(ros2_control=None))
    with pytest.raises(ConfigError, match='did you mean'):
        ros2_control_config(changed(ros2_control={
            'controller': 'joint_trajectory_controller', 'controler_name': 'c'}))
    with pytest.raises(ConfigError, match='positions only'):
        ros2_control_config(changed(control_mode='velocity'))
