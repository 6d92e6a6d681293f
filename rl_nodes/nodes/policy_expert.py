# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A policy that demonstrates a task."""

from pathlib import Path

import numpy as np
from rl_nodes.core.errors import BundleError, ConfigError
from rl_nodes.core.types import Goal, RobotState
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.inference.trial import PolicyTrial
from rl_nodes.tasks.base import Task


class PolicyExpert:
    """
    Does a task as a policy does.

    :param path: of a .onnx file with its manifest beside it.
    :param task: it has to be made for.
    :raises BundleError: missing, damaged, or not fit to be run.
    :raises ConfigError: the task observes rewards or pictures, which nobody tells a demonstrator.
    :raises ContractError: made for another robot or task.
    """

    def __init__(self, path: str, task: Task) -> None:
        bundle = PolicyBundle.load(Path(path))
        task.contract.require(bundle.manifest.contract,
                              f'robot {task.robot.name} doing {task.name}', f'policy {path}')
        if bundle.manifest.chunk is not None:
            raise BundleError(f'{path} answers with chunks of actions; a demonstrating policy '
                              'answers each state by itself')
        self._task, self._observer = task, task.observer()
        if self._observer.needs_rewards:
            raise ConfigError(f'task {task.name} observes return_to_go, which a demonstrating '
                              'policy does not know; let a policy server run it')
        if bundle.manifest.contract.pictures:
            raise ConfigError(f'task {task.name} observes pictures, which a demonstrating policy '
                              'does not see; let a policy server run it')
        self._policy: PolicyRuntime = PolicyTrial().admit(bundle)

    def command(self, state: RobotState, goal: Goal) -> np.ndarray:
        """Return the command for a state, shape (A,), float64."""
        action = self._policy.act(self._observer.observe(state, goal))
        command = self._task.command(state, action)
        self._observer.acted(state, command)
        return command
