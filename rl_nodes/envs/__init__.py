# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Gymnasium environments; importing this package registers them."""

import gymnasium

ENVIRONMENTS = {
    'rl_nodes/Reach-v0': ('arm', 'reach'),
    'rl_nodes/CartpoleBalance-v0': ('cartpole', 'cartpole_balance'),
}

for _id, (_robot, _task) in ENVIRONMENTS.items():
    gymnasium.register(_id, entry_point='rl_nodes.envs.sim_env:SimEnv',
                       kwargs={'robot': _robot, 'task': _task})
