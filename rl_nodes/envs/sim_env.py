# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""One robot doing one task in this process: the fastest of the three ways to step a task."""

import os
from typing import Any

import gymnasium
import numpy as np
from rl_nodes.backends import make_robot
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.types import EpisodeId, Goal, RobotState
from rl_nodes.core.variation import Variation
from rl_nodes.envs.eyes import Eyes
from rl_nodes.envs.window import EpisodeWindow
from rl_nodes.safety.budget import budgets_of
from rl_nodes.safety.gate import Gate
from rl_nodes.safety.verdict import Level
from rl_nodes.tasks import load_task
from rl_nodes.tasks.curriculum import require_difficulty

UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
INFO_FLAGS = ('success', 'limited')  # in every info, beside the reward terms


def spaces_of(contract: Contract) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
    """Return (observation space, action space) of a contract, the pictures left out."""
    return (gymnasium.spaces.Box(-np.inf, np.inf, contract.observation.shape, np.float32),
            gymnasium.spaces.Box(*contract.action.bounds(), dtype=np.float32))


def refuse_pictures(contract: Contract, environment: str) -> None:
    """Refuse a task that observes pictures; ConfigError names the environment that has none."""
    if contract.pictures:
        raise ConfigError(f'task {contract.task} observes pictures, which {environment} does not '
                          'give; use SimEnv, one in each process, or leave pictures out of the '
                          'task')


class SimEnv(gymnasium.Env):
    """
    Task and simulated robot behind the Gymnasium API.

    Action: one value in [-1, 1] per commanded joint, see ``tasks/actions.py``. Observation: the
    signals of the task, see ``contract.observation`` for names, units and bounds. Reward, start
    and end: see the task. Commands pass the same checks as on the robot, so what is learned here
    is what the safety monitor lets through. ``info`` has ``success``, ``limited``, every reward
    term by name, and ``cost/<name>`` [s] of each of the robot's ``safety.costs``. Where the task
    varies its episodes (``docs/randomisation.md``), the ``info`` of a reset has what was drawn, by
    name, in ``randomisation``. Where it lists privileged signals (``docs/observation.md``), every
    ``info`` has those of the true state in ``privileged``, shape (P,), float32. Where it observes
    pictures (``docs/cameras.md``), an observation is a dictionary: ``observation``, and
    ``picture_<camera>`` (H, W, 3), uint8, bit by bit what a policy sees in lockstep.

    :param robot: name in ``config/robots`` or path to a YAML or URDF file.
    :param task: name in ``config/tasks`` or path to a YAML file.
    :param backend: simulator.
    :param render_mode: None; ``rgb_array``; or ``human`` for a window that shows every state, at
        the pace of the robot, where there is a display.
    """

    metadata = {'render_modes': ['human', 'rgb_array'], 'render_fps': 50}

    def __init__(self, robot: str, task: str, backend: str = 'pybullet',
                 render_mode: str | None = None) -> None:
        self.task = load_task(robot, task)
        self.contract = self.task.contract
        self.render_mode = render_mode
        self.metadata = {'render_modes': [mode for mode in self.metadata['render_modes']
                                          if mode != 'human' or 'DISPLAY' in os.environ],
                         'render_fps': round(self.contract.rate_hz)}
        self.observation_space, self.action_space = spaces_of(self.contract)
        self._eyes = Eyes(self.task) if self.task.sights else None
        if self._eyes is not None:
            self.observation_space = gymnasium.spaces.Dict({
                'observation': self.observation_space, **self._eyes.spaces()})
        self._gate, self._costs = Gate(self.task.robot), budgets_of(self.task.robot)
        self._observer, self._judge = self.task.observer(), self.task.judge()
        self._robot = make_robot(backend, self.task.robot, self.task.objects, self.task.disturbs)
        self._window = EpisodeWindow(robot, task, self.task.period_ns) \
            if render_mode == 'human' else None
        self._difficulty = 1.0
        self._variation: Variation | None = None
        self._tells_truth = self.contract.privileged is not None
        self._stamp = 0
        self._episode = 0
        self._state: RobotState | None = None
        self._goal: Goal | None = None

    @property
    def difficulty(self) -> float:
        """Return the difficulty of the episodes to come, 0 to 1; it may be set at any time."""
        return self._difficulty

    @difficulty.setter
    def difficulty(self, value: float) -> None:
        self._difficulty = require_difficulty(value)

    def reset(self, *, seed: int | None = None,
              options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; a seed makes it and all that follow reproducible."""
        super().reset(seed=seed)
        start = self.task.episode(self.np_random, self._difficulty)
        self._robot.reset(start)
        self._stamp += self.task.period_ns
        self._episode += 1
        self._goal = Goal(self._stamp, start.goal, UPRIGHT)
        self._state = self._read(str(EpisodeId(self._episode, self._stamp)))
        self._rewarded(self.task.first_outcome().total)
        if self._window is not None:
            self._window.show(self._state, self._goal)
        self._variation = start.variation
        info: dict[str, Any] = {}
        if start.variation is not None:
            info['randomisation'] = start.variation.values
        if self._tells_truth:
            info['privileged'] = self._privileged()
        return self._observe(), info

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Command the robot, advance one control period, evaluate."""
        if self._state is None or self._goal is None:
            raise gymnasium.error.ResetNeeded('call reset() before step()')
        before = self._state
        wanted = self.task.command(before, np.asarray(action))
        judged = self._gate.judge(wanted, before)
        allowed = judged.allowed
        if allowed is None:
            self._gate.trace.halted()
            self._robot.hold()
            executed = self.task.hold_command(before)
        else:
            self._gate.executed(allowed, before)
            executed = self._robot.write(allowed)
        self._observer.acted(before, wanted)
        self._robot.step()
        self._stamp += self.task.period_ns
        self._state = self._read(before.episode)
        if self._window is not None:
            self._window.show(self._state, self._goal)
        outcome = self._judge(before, executed, self._state, self._goal)
        self._rewarded(outcome.total)
        info = {'success': outcome.success, 'limited': judged.level > Level.PASS, **outcome.terms}
        for cost in self._costs:
            info[cost.name] = cost.cost_s(judged, before)
        if self._tells_truth:
            info['privileged'] = self._privileged()
        return self._observe(), outcome.total, outcome.terminated, outcome.truncated, info

    def render(self) -> np.ndarray | None:
        """Return a picture, shape (480, 640, 3), uint8; None without ``rgb_array``."""
        return self._robot.render(640, 480) if self.render_mode == 'rgb_array' else None

    def close(self) -> None:
        """Let go of the simulator and of the window."""
        self._robot.close()
        if self._eyes is not None:
            self._eyes.close()
        if self._window is not None:
            self._window.close()

    def _rewarded(self, total: float) -> None:
        """Take note of the reward of the present state."""
        self._observer.rewarded(self._stamp, self._state.episode, total)

    def _observe(self) -> np.ndarray | dict[str, np.ndarray]:
        """Return what is observed in the present state."""
        observation = self._observer.observe(self._state, self._goal)
        if self._eyes is None:
            return observation
        return {'observation': observation, **self._eyes.look(self._state)}

    def _privileged(self) -> np.ndarray:
        """Return what only a critic or a teacher sees of the present state, shape (P,)."""
        true = RobotState(self._stamp, self._state.episode, *self._robot.truth())
        return self.task.privileged(true, self._goal, self._variation)

    def _read(self, episode: str) -> RobotState:
        measured = self._robot.read()
        return RobotState(self._stamp, episode, *measured)
