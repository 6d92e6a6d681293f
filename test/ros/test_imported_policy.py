# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A policy that stable-baselines3 has made moves the robot as it does there."""

from pathlib import Path
import warnings

import gymnasium
from harness import observer
import numpy as np
import rl_nodes.envs  # noqa: F401 - registers the environments
from rl_nodes.policies.importing import import_policy, ImportOptions
from stable_baselines3 import SAC
from test_control_path import Asker, server, TASK
import torch


class Deterministic(torch.nn.Module):
    """What is exported: the action without exploration."""

    def __init__(self, model: SAC) -> None:
        super().__init__()
        self.policy = model.policy

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.policy._predict(obs, deterministic=True)


def test_it_answers_states_as_its_trainer_predicts(tmp_path: Path) -> None:
    model = SAC('MlpPolicy', gymnasium.make('rl_nodes/Reach-v0'), seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            Deterministic(model).eval(), (torch.zeros(1, *model.observation_space.shape),),
            str(tmp_path / 'sac.onnx'), input_names=['obs'], output_names=['actions'],
            opset_version=17, dynamo=False, dynamic_axes={'obs': {0: 'batch'}})
    policy, _ = import_policy(tmp_path / 'sac.onnx', ImportOptions(
        robot='arm', task='reach', output=str(tmp_path / 'policy.onnx')))
    with observer() as seen, server(f'policy:={policy}'):
        asker = Asker(seen)
        asker.connect()
        for _ in range(10):
            state = asker.state()
            action, _ = model.predict(TASK.observer().observe(state, asker.goal),
                                      deterministic=True)
            msg = asker.ask(state)
            np.testing.assert_allclose(msg.position, TASK.command(state, action), atol=1e-6)
            assert msg.header.frame_id == 'arm_reach@1'
