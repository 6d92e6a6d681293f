# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Gymnasium environments; importing this package registers them."""

import gymnasium

ENVIRONMENTS = {
    'rl_nodes/Reach-v0': ('arm', 'reach'),
    'rl_nodes/Push-v0': ('arm', 'push'),
    'rl_nodes/ReachRandomised-v0': ('arm', 'reach_randomised'),
    'rl_nodes/PandaReach-v0': ('panda', 'reach_panda'),
    'rl_nodes/IiwaReach-v0': ('iiwa', 'reach_iiwa'),
    'rl_nodes/CartpoleBalance-v0': ('cartpole', 'cartpole_balance'),
    'rl_nodes/CartpoleSwingUp-v0': ('cartpole', 'cartpole_swingup'),
    'rl_nodes/CartpoleSwingUpPartial-v0': ('cartpole', 'cartpole_swingup_partial'),
    'rl_nodes/QuadrupedStand-v0': ('quadruped', 'quadruped_stand'),
    'rl_nodes/QuadrupedWalk-v0': ('quadruped', 'quadruped_walk'),
    'rl_nodes/Navigate-v0': ('rover', 'navigate'),
}

for _id, (_robot, _task) in ENVIRONMENTS.items():
    gymnasium.register(_id, entry_point='rl_nodes.envs.sim_env:SimEnv',
                       vector_entry_point='rl_nodes.envs.vector_env:SimVectorEnv',
                       kwargs={'robot': _robot, 'task': _task})

# Small enough for tables of values; the variants are those of which exact values are known.
for _id, _settings in {
        'rl_nodes/GridWorld-v0': {'grid': '4x3'},
        'rl_nodes/GridWorldLiving-v0': {'grid': '4x3', 'living': -0.03},
        'rl_nodes/GridWorldCorners-v0': {'grid': 'corners', 'living': -1.0, 'slip': (0.0, 0.0)},
        'rl_nodes/GridWorldDiscount-v0': {'grid': 'discount', 'slip': (0.0, 0.0)},
        'rl_nodes/GridWorldDiscountSlip-v0': {'grid': 'discount', 'slip': (0.2, 0.1)}}.items():
    gymnasium.register(_id, entry_point='rl_nodes.envs.grid_world:GridWorld', kwargs=_settings,
                       max_episode_steps=200)

# The running graph: gymnasium.make('rl_nodes/Ros-v0', robot='arm', task='reach').
gymnasium.register('rl_nodes/Ros-v0', entry_point='rl_nodes.envs.ros_env:RosEnv')
