# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Hostile commands and states by the million."""

import numpy as np
from oracle import Oracle
from rl_nodes.core.types import RobotState
from rl_nodes.safety.gate import judge_values

BLOCK = 20_000
MAGIC = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, -5e-324, 0.0, -0.0, 1e30, -1e16])


def draw(robot, rng, count):
    """Return (q (N, J), dq (N, J), commands (N, A)): mostly plausible, some at the limits."""
    joints, index = len(robot.joints), robot.commanded
    low = np.array([-4.0 if j.lower is None else j.lower for j in robot.joints])
    high = np.array([4.0 if j.upper is None else j.upper for j in robot.joints])
    span = high - low
    q = low + rng.uniform(-0.05, 1.05, (count, joints)) * span
    edge = rng.random((count, joints)) < 0.1
    margin = robot.config.safety.position_margin
    ends = np.where(rng.random(q.shape) < 0.5, low + margin, high - margin)
    q = np.where(edge, ends + rng.choice([0.0, 0.0, 1e-9, -1e-9, 0.01, -0.01], q.shape), q)
    limit = np.array([j.velocity for j in robot.joints])
    dq = rng.standard_normal(q.shape) * limit * 0.5
    dq = np.where(rng.random(q.shape) < 0.05, np.sign(dq) * limit * robot.config.safety.overspeed,
                  dq)
    effort = robot.config.control_mode == 'effort'
    most = robot.limits('effort') if effort else limit[index]
    relative = robot.config.control_mode == 'position'
    unit = most / robot.config.rate_hz if relative else most
    size = rng.choice([0.0, 0.3, 1.0, 1.0 + 1e-9, 1.2, 5.0, 1e3], (count, 1))
    step = rng.uniform(-1, 1, (count, len(index))) * unit * size
    step = np.where(rng.random(step.shape) < 0.2, np.sign(step) * unit * size, step)
    command = step + (q[:, index] if relative else 0.0)
    for values, share in ((command, 0.01), (q, 0.0003), (dq, 0.0003)):
        odd = rng.random(values.shape) < share
        values[odd] = rng.choice(MAGIC, int(odd.sum()))
    return q, dq, command


def campaign(robot, checks, count, seed, narrowing=(1.0, 0.0)):
    """
    Judge ``count`` commands that do not follow each other.

    :return: (violations by name, verdicts by level).
    """
    rng, oracle = np.random.default_rng(seed), Oracle(robot)
    bad, levels = {}, np.zeros(4, int)
    with np.errstate(all='ignore'):
        for start in range(0, count, BLOCK):
            q, dq, command = draw(robot, rng, min(BLOCK, count - start))
            allowed = np.full(command.shape, np.nan)
            none = np.empty(0)
            for k in range(len(q)):
                judged = judge_values(checks, command[k], RobotState(0, '', q[k], dq[k], none))
                levels[judged.level] += 1
                if judged.allowed is not None:
                    allowed[k] = judged.allowed
            for name, number in oracle.violations(q, dq, command, allowed, narrowing).items():
                bad[name] = bad.get(name, 0) + number
    return bad, levels
