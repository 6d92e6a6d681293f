# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Train on the running graph with stable-baselines3, unmodified.

First, in another terminal: ``rl_nodes launch gym robot:=arm task:=reach``.
"""

import sys

import gymnasium
import rl_nodes.envs  # noqa: F401 - registers rl_nodes/Ros-v0
from stable_baselines3 import SAC

if __name__ == '__main__':
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    env = gymnasium.make('rl_nodes/Ros-v0', robot='arm', task='reach', arm=True)
    model = SAC('MlpPolicy', env, seed=0, verbose=1)
    model.learn(steps)
    model.save('runs/sb3_reach')
    env.close()
