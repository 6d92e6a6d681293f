# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Scripts do their tasks, as far as a policy could; motions of axes stay within limits."""

import numpy as np
import pytest
from rl_nodes.control.cartesian import TipVelocity
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import load_robot
from rl_nodes.core.types import Goal, RobotState
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.tasks import load_task
from rl_nodes.teleop.experts import make_expert
from rl_nodes.teleop.motion import CartesianMotion, JointMotion, make_motion
from rl_nodes.teleop.pilots import ReplayPilot, ScriptPilot

ARM = load_robot('arm')
UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])


def state(position, stamp=1):
    return RobotState(stamp, '1@0', position, np.zeros(len(position)), np.zeros(len(position)))


@pytest.mark.parametrize(('robot', 'task', 'episodes'), [
    ('arm', 'reach', 3), ('arm', 'push', 3), ('cartpole', 'cartpole_balance', 1),
    ('cartpole', 'cartpole_swingup', 1), ('cartpole', 'cartpole_swingup_partial', 1),
    ('cartpole', 'cartpole_balance_residual', 1), ('rover', 'navigate', 2),
    ('quadruped', 'quadruped_stand', 1)])
def test_scripts_succeed(robot, task, episodes):
    env = SimEnv(robot, task)
    expert = make_expert(env.task)
    for seed in range(100, 100 + episodes):
        env.reset(seed=seed)
        done = False
        while not done:
            command = expert.command(env._state, env._goal)
            action = env.task.to_action(env._state, command)
            assert np.abs(action).max() <= 1 + 1e-6  # a policy could do the same
            _, _, terminated, truncated, info = env.step(action)
            done = terminated or truncated
        assert info['success'], seed
    env.close()


def test_what_no_script_can_do_is_refused():
    with pytest.raises(ConfigError, match='expert:=FILE.onnx'):
        make_expert(load_task('quadruped', 'quadruped_walk'))
    with pytest.raises(ConfigError, match='stands on legs'):
        make_motion(load_task('quadruped', 'quadruped_stand'), 'auto', 6, 0.5, 0.2, 1.0)
    with pytest.raises(ConfigError, match='mapping:=joint'):
        make_motion(load_task('cartpole', 'cartpole_balance'), 'cartesian', 6, 0.5, 0.2, 1.0)


def test_the_tip_moves_as_wanted_and_no_joint_too_fast():
    tip, rng = TipVelocity(ARM, ARM.chain), np.random.default_rng(0)
    for _ in range(50):
        q = ARM.home + rng.uniform(-0.3, 0.3, 6)
        slow = tip.joints(q, np.array([0.02, -0.01, 0.03]))
        ahead = q.copy()
        ahead[ARM.commanded] += 1e-4 * slow
        moved = (ARM.chain.tip_position(ahead) - ARM.chain.tip_position(q)) / 1e-4
        np.testing.assert_allclose(moved, [0.02, -0.01, 0.03], atol=2e-4)
        fast = tip.joints(q, rng.normal(size=6) * 10)
        assert (np.abs(fast) <= ARM.limits('velocity') * (1 + 1e-9)).all()


def test_singular_arms_and_joints_at_their_limits_stay_finite():
    tip, stretched = TipVelocity(ARM, ARM.chain), np.zeros(6)
    assert (np.abs(tip.joints(stretched, np.array([0.0, 0.0, 1.0])))
            <= ARM.limits('velocity') * (1 + 1e-9)).all()
    low = np.array([joint.lower for joint in ARM.joints])
    for velocity in np.concatenate([np.eye(6), -np.eye(6)]):
        assert (tip.joints(low, velocity) >= -1e-9).all()


def test_axes_at_rest_hold_and_full_axes_move_at_their_speed():
    motion, q = JointMotion(ARM, 4, 0.5), ARM.home.copy()
    motion.begin(state(q))
    np.testing.assert_array_equal(motion.command(state(q + 0.001), np.zeros(4)), q)
    step = motion.command(state(q), np.array([1.0, 0, 0, 0])) - q
    np.testing.assert_allclose(step[0], 0.5 * ARM.limits('velocity')[0] / ARM.config.rate_hz)
    assert not step[1:].any()
    assert motion.page() == 'moves wrist_yaw, wrist_roll'
    motion.begin(state(q))
    assert np.flatnonzero(motion.command(state(q), np.array([1.0, 0, 0, 0])) - q) == [4]
    for _ in range(100):  # who does not follow is not left behind
        ahead = motion.command(state(q), np.array([1.0, 0, 0, 0])) - q
    assert (ahead <= ARM.limits('velocity') / ARM.config.rate_hz + 1e-12).all()


def test_cartesian_axes_move_the_tool():
    motion, q = CartesianMotion(ARM, 0.2, 1.0), ARM.home.copy()
    motion.begin(state(q))
    after = motion.command(state(q), np.array([0, 0, 1.0, 0, 0, 0]))
    moved = (ARM.chain.tip_position(after) - ARM.chain.tip_position(q)) * ARM.config.rate_hz
    np.testing.assert_allclose(moved, [0, 0, 0.2], atol=0.01)


def test_noise_is_not_what_was_intended_and_repeats_by_seed():
    task = load_task('arm', 'reach')
    goal = Goal(1, np.array([0.2, 0.1, 0.3]), UPRIGHT)
    pilots = [ScriptPilot(task, make_expert(task), 0.4, 3) for _ in range(2)]
    wishes = [[pilot.wish(state(ARM.home, stamp), goal, 0) for stamp in range(1, 9)]
              for pilot in pilots]
    for ours, theirs in zip(*wishes):
        np.testing.assert_array_equal(ours.command, theirs.command)
    intended = make_expert(task).command(state(ARM.home), goal)
    np.testing.assert_array_equal(wishes[0][0].intended, intended)
    assert np.abs(wishes[0][0].command - intended).max() > 1e-4
    exact = ScriptPilot(task, make_expert(task), 0.0, 3).wish(state(ARM.home), goal, 0)
    assert exact.intended is None


def test_a_replay_goes_to_where_it_begins_and_then_repeats():
    start = ARM.home + 0.1
    commands = [start + 0.001 * step for step in range(5)]
    pilot = ReplayPilot(ARM, commands, commands, ramp=True)
    q, given, step = ARM.home.copy(), [], 0
    for stamp in range(3):  # nothing of it is executed yet
        np.testing.assert_array_equal(pilot.wish(state(q, stamp), Goal(0, q[:3], UPRIGHT),
                                                 0).command, q)
    pilot.executed(0)
    while (wish := pilot.wish(state(q, stamp=step), Goal(0, q[:3], UPRIGHT), 0)) is not None:
        assert np.abs(wish.command - q).max() <= (ARM.limits('velocity')
                                                  / ARM.config.rate_hz).max() * (1 + 1e-6)
        q, step = wish.command.copy(), step + 1
        given.append(q)
        assert step < 200
    assert pilot.done
    np.testing.assert_array_equal(given[-5:], commands)
    assert len(given) > 8
    still = ReplayPilot(ARM, commands, commands, ramp=False)
    still.executed(0)
    assert still.wish(state(ARM.home), Goal(0, q[:3], UPRIGHT), 0) is None
    assert 'too far' in still.complaint
    slow = ReplayPilot(ARM, commands, commands, ramp=True)
    slow.executed(0)
    slow.wish(state(ARM.home), Goal(0, q[:3], UPRIGHT), 0)
    assert slow.wish(state(ARM.home), Goal(0, q[:3], UPRIGHT), 10**12) is None
    assert 'not where the recording begins' in slow.complaint
    lost = ReplayPilot(ARM, commands, commands, ramp=True)
    lost.executed(0)
    assert lost.wish(state(ARM.home, 10**9), Goal(0, q[:3], UPRIGHT), 0) is None
    assert lost.complaint == 'the robot was stopped after 0 of 5 commands'
    with pytest.raises(ConfigError, match='efforts'):
        ReplayPilot(load_robot('cartpole'), commands, commands, True)
