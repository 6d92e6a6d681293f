# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The training loop of on-policy learners, and where their rollouts come from in one process."""

import threading

from gymnasium import spaces
from gymnasium.vector import VectorEnv
import numpy as np
from rl_nodes.algorithms.on_policy import OnPolicyLearner
from rl_nodes.algorithms.partners import Partners
from rl_nodes.core.errors import TrainingError
from rl_nodes.data.rollout import Rollout
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.training.off_policy import reason_to_stop, RunResult
from rl_nodes.training.recovery import Recovery
from rl_nodes.training.session import Session
from rl_nodes.training.sources import costs, episode_seeds, successes
import torch

MAX_ROLLOUT_STEPS = 100_000  # of each environment


def run(session: Session, stop: threading.Event | None = None) -> RunResult:
    """
    Train until the target, a limit or ``stop``.

    :param session: learner, source, settings and outputs; already resumed if it shall be.
    :param stop: set from a signal handler or another thread to end the run in good order.
    :raises TrainingError: learning diverged too often; the last checkpoint is kept.
    """
    learner, source = session.learner, session.source
    stop = threading.Event() if stop is None else stop
    cut_short = stop if learner.partners is None else threading.Event()  # they wait for each other
    session.hand_out()

    while not (reason := reason_to_stop(session, stop)):
        # Collect: what the present policy does. Cut short by stop, it is not learned from.
        rollout = source.collect_rollout(cut_short)
        if rollout is None:
            session.await_rollout()
            continue
        session.take_rollout(rollout)

        # Learn: from that and nothing else.
        try:
            with torch.inference_mode(not learner.autograd):
                learner.update(rollout)
        except TrainingError as error:
            session.roll_back(error)
        session.keep_snapshot()

        # Publish: where others act, this policy and no other is what comes next.
        session.hand_out()

        # Judge, keep, tell.
        if session.evaluation_due():
            session.evaluate()
        if session.checkpoint_due():
            session.checkpoint()
        session.report()

    elapsed_s = session.elapsed_s()
    session.checkpoint()
    evaluation = session.judge(at_once=reason == 'stopped')
    session.report(force=True)
    return RunResult(reason, session.steps, learner.updates, elapsed_s, evaluation)


def follow(learner: OnPolicyLearner, source: 'RolloutSource', partners: Partners,
           recovery: Recovery) -> int:
    """Do what a round of :func:`run` does, beside the first process; return the control steps."""
    rollout = source.collect_rollout(threading.Event())
    if rollout is None:
        return 0
    with torch.inference_mode(not learner.autograd), recovery.beside_first():
        learner.update(rollout)
    return len(rollout)


class RolloutSource:
    """Steps Gymnasium environments in this process with the learner's own, newest policy."""

    wants_policies = False
    pending, complaint = 0, ''  # a rollout comes at once, and of the newest policy

    def __init__(self, envs: VectorEnv, learner: OnPolicyLearner, seed: int,
                 steps_before: int = 0, rank: int = 0, cost: str = '') -> None:
        """
        Reset the environments.

        :param envs: N environments with ``AutoresetMode.SAME_STEP``, see ``sources.make_envs``.
        :param learner: asked for the actions and for how long a rollout is.
        :param seed: of the run.
        :param steps_before: control steps of the run that were made already.
        :param rank: of this process among those that learn together: each has other episodes.
        :param cost: name of what each step costs; empty where nobody asks.
        """
        self._envs, self._learner, self._seed, self._rank = envs, learner, seed, rank
        self._cost = cost
        self._discrete = isinstance(envs.single_action_space, spaces.Discrete)
        self.restart(steps_before)

    def restart(self, steps: int) -> None:
        """Begin new episodes, those of a run that has made so many control steps."""
        count = self._envs.num_envs
        observation, _ = self._envs.reset(
            seed=episode_seeds(self._seed, steps, count, self._rank))
        self._observation = np.asarray(observation, np.float32)
        self._returns, self._costs = np.zeros(count), np.zeros(count)
        self._lengths = np.zeros(count, np.int64)
        self._between_episodes = True
        self._learner.forget(np.ones(count, bool))

    def collect_rollout(self, stop: threading.Event) -> Rollout | None:
        """
        Return what the present policy does next; None where ``stop`` came in between.

        That is ``rollout_length`` steps of each environment, or as many whole episodes of each.
        An environment that has done its episodes goes on until all have; those steps do not
        count, or short episodes would be preferred.
        """
        learner, count = self._learner, self._envs.num_envs
        whole, length = learner.whole_episodes, learner.rollout_length
        if whole and not self._between_episodes:
            self._observation = np.asarray(self._envs.reset()[0], np.float32)
            self._returns[:], self._costs[:], self._lengths[:] = 0.0, 0.0, 0
            learner.forget(np.ones(count, bool))
        memory = learner.remembered(count)
        left = np.full(count, length)  # steps, or episodes
        rows: dict[str, list[np.ndarray]] = {name: [] for name in (
            'observation', 'action', 'reward', 'terminated', 'truncated', 'counted',
            *(('cost',) if self._cost else ()))}
        cut: list[np.ndarray] = []
        episodes: list[tuple[float, int, bool]] = []
        episode_costs: list[float] = []
        while left.any():
            if stop.is_set():
                return None
            counted, observation = left > 0, self._observation
            action = learner.act(observation)
            command = learner.command(action)
            following, reward, terminated, truncated, info = self._envs.step(
                command[:, 0] if self._discrete else command)
            self._observation = np.asarray(following, np.float32)
            self._returns += reward
            self._lengths += 1
            if self._cost:
                rows['cost'].append(costs(info, self._cost, count))
                self._costs += rows['cost'][-1]
            ended = terminated | truncated
            if ended.any():
                for i in np.flatnonzero(ended & truncated & ~terminated):
                    cut.append(np.asarray(info['final_obs'][i], np.float32))
                if self._cost:
                    episode_costs += self._costs[ended & counted].tolist()
                    self._costs[ended] = 0.0
                episodes += self._finished(ended & counted, ended, info)
                learner.forget(ended)
            left -= (ended & counted) if whole else 1
            for name, value in zip(rows, (observation, action, reward, terminated, truncated,
                                          counted)):
                rows[name].append(value)
            if len(rows['reward']) > MAX_ROLLOUT_STEPS:
                raise TrainingError(f'a rollout passed {MAX_ROLLOUT_STEPS} steps; '
                                    f'{learner.name} needs episodes that end')
        self._between_episodes = bool(ended.all())
        arrays = {name: np.stack(values) for name, values in rows.items()}
        arrays['reward'] = arrays['reward'].astype(np.float32)
        width = self._observation.shape[1]
        return Rollout(**arrays, last_observation=self._observation,
                       cut_observation=np.array(cut, np.float32).reshape(-1, width),
                       policy_version=learner.updates, memory=memory,
                       episodes=tuple(episodes), episode_costs=tuple(episode_costs))

    def _finished(self, counted: np.ndarray, ended: np.ndarray,
                  info: dict) -> list[tuple[float, int, bool]]:
        """Return (return, length, success) of episodes that count, and begin the next ones."""
        success = successes(info.get('final_info', {}), len(ended))
        found = [(float(self._returns[i]), int(self._lengths[i]), bool(success[i]))
                 for i in np.flatnonzero(counted)]
        self._returns[ended], self._lengths[ended] = 0.0, 0
        return found

    def publish(self, bundle: PolicyBundle, version: int, updates: int) -> None:
        """Do nothing: the learner itself acts."""

    def policy_updates_in_use(self) -> int:
        """Return the learner's updates: its newest policy always acts."""
        return self._learner.updates

    def metrics(self) -> dict[str, float]:
        """Return nothing."""
        return {}

    def set_difficulty(self, difficulty: float) -> None:
        """Set the attribute ``difficulty`` of every environment."""
        self._envs.set_attr('difficulty', difficulty)

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()
