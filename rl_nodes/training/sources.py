# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Where transitions come from: what the training loop sees of it, and its Gymnasium form."""

from collections.abc import Callable, Mapping
import importlib
from types import MappingProxyType
from typing import Any, Protocol

import gymnasium
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv
import numpy as np
from rl_nodes.algorithms.base import OffPolicyLearner
from rl_nodes.core.config import suggestion
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import RlNodesError, TrainingError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.core.types import TransitionBatch
from rl_nodes.envs.checked_env import CheckedEnv, Watch
from rl_nodes.envs.ray_env import RayVectorEnv
from rl_nodes.envs.serial_env import SerialVectorEnv
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.training.settings import require_flat

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Source(Protocol):
    """
    What collects experience with the policies that it is given.

    :ivar wants_policies: True where :meth:`publish` must be fed, because acting happens elsewhere.
    """

    wants_policies: bool

    def collect(self) -> TransitionBatch | None:
        """Return the transitions that have come since the last call, or None; never wait long."""

    def publish(self, bundle: PolicyBundle, version: int, updates: int) -> None:
        """Hand out a newer policy, the result of ``updates`` gradient steps."""

    def policy_updates_in_use(self) -> int:
        """Return the gradient steps behind the newest policy that has been seen acting."""

    def metrics(self) -> dict[str, float]:
        """Return what is logged of the source."""

    def set_difficulty(self, difficulty: float) -> None:
        """Set how difficult the next episodes are, 0 (easy) to 1; evaluations are elsewhere."""

    def restart(self, steps: int) -> None:
        """Begin new episodes, those with which a run begins that is resumed at so many steps."""

    def close(self) -> None:
        """Release what the source holds."""


class EnvSource:
    """Steps Gymnasium environments in this process with the learner's own, newest policy."""

    wants_policies = False

    def __init__(self, envs: VectorEnv, learner: OffPolicyLearner, seed: int,
                 steps_before: int = 0, steps_per_collect: int = 1, cost: str = '',
                 rank: int = 0) -> None:
        """
        Reset the environments.

        :param envs: N environments with ``AutoresetMode.SAME_STEP``, see :func:`make_envs`.
        :param learner: asked for the actions.
        :param seed: of the run.
        :param steps_before: control steps of the run that were made already.
        :param steps_per_collect: steps of every environment per :meth:`collect`.
        :param cost: name of what each step costs; empty where nobody asks.
        :param rank: of this process among those that learn together: each has other episodes.
        """
        self._envs, self._rank = envs, rank
        self._learner = learner
        self._seed = seed
        self._steps_per_collect = steps_per_collect
        self._cost = cost
        self._discrete = isinstance(envs.single_action_space, spaces.Discrete)
        self.restart(steps_before)

    def restart(self, steps: int) -> None:
        """Begin new episodes, those of a run that has made so many control steps."""
        count = self._envs.num_envs
        observation, info = self._envs.reset(
            seed=episode_seeds(self._seed, steps, count, self._rank))
        self._observation = _float32(observation)
        self._privileged = info.get('privileged')
        self._step = np.zeros(count, np.int64)
        self._episode = np.arange(count, dtype=np.int64)
        self._next_episode = count
        self._learner.forget(np.ones(count, bool))

    def collect(self) -> TransitionBatch:
        """Return ``steps_per_collect * N`` transitions."""
        steps = [self._step_all() for _ in range(self._steps_per_collect)]
        columns = {name: np.concatenate(parts) for name, parts in zip(
            steps[0], zip(*(step.values() for step in steps), strict=True))}
        columns['reward'] = _float32(columns['reward'])
        count = len(columns['reward'])
        return TransitionBatch(**columns, wanted=columns['action'], limited=np.zeros(count, bool),
                               policy_version=np.full(count, self._learner.updates, np.int64))

    def _step_all(self) -> dict[str, np.ndarray]:
        """Step every environment; return the columns that differ from step to step."""
        observation = self._observation
        action = self._learner.act(observation)
        following, reward, terminated, truncated, info = self._envs.step(
            action[:, 0] if self._discrete else action)
        self._observation = next_observation = _float32(following)
        rows = {
            'observation': observation, 'action': action, 'reward': reward,
            'next_observation': next_observation, 'terminated': terminated,
            'truncated': truncated, 'success': successes(info, len(action)),
            'episode': self._episode, 'step': self._step}
        if self._cost:
            rows['cost'] = costs(info, self._cost, len(action))
        if self._privileged is not None:
            rows['privileged'] = self._privileged
            rows['next_privileged'] = self._privileged = info['privileged']
        self._step = self._step + 1  # not in place: rows holds these
        if '_final_obs' in info:  # those environments have been reset within this step
            self._end(info, rows)
        return rows

    def _end(self, info: dict[str, Any], rows: dict[str, np.ndarray]) -> None:
        """Let rows tell how episodes have ended, not how the next ones begin, and count those."""
        ended, last = info['_final_obs'], info.get('final_info', {})
        rows['next_observation'] = rows['next_observation'].copy()
        rows['success'] = np.where(ended, successes(last, len(ended)), rows['success'])
        if self._privileged is not None:
            rows['next_privileged'] = np.where(
                ended[:, None], last['privileged'], self._privileged)
        self._learner.forget(ended)
        self._episode = self._episode.copy()
        for i in np.flatnonzero(ended):
            rows['next_observation'][i] = info['final_obs'][i]
            self._step[i] = 0
            self._episode[i] = self._next_episode
            self._next_episode += 1

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


def episode_seeds(seed: int, steps: int, count: int, rank: int = 0) -> list[int]:
    """
    Return a seed for each environment, others in each part of a run.

    :param seed: of the run.
    :param steps: control steps before this part, so that it does not repeat the first one.
    :param count: environments.
    :param rank: of this process among those that learn together, which have as many each.
    """
    state = np.random.SeedSequence([seed, steps]).generate_state(count * (rank + 1))
    return [int(word) >> 1 for word in state[-count:]]


def _float32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32)


def successes(info: dict[str, Any], count: int) -> np.ndarray:
    """Return where ``info['success']`` holds, shape (N,); nowhere if the key is missing."""
    told = info.get('success')
    return np.zeros(count, bool) if told is None else np.asarray(told, bool)


def costs(info: dict[str, Any], name: str, count: int) -> np.ndarray:
    """
    Return what a step has cost, also where it has ended an episode, shape (N,), float32.

    :param info: of a vector environment that resets within the step.
    :raises TrainingError: an environment has not said; what is not said may not count as free.
    """
    last = info.get('final_info', {})
    told, cost = np.zeros(count, bool), np.zeros(count, np.float32)
    for part in (info, last):  # what ended an episode overrides what began the next
        if _is_number(part.get(name)):
            rows = np.asarray(part.get(f'_{name}', np.ones(count)), bool)
            told |= rows
            cost[rows] = np.asarray(part[name])[rows]
    if not told.all():
        known = sorted({key for part in (info, last) for key, values in part.items()
                        if key[:1] != '_' and _is_number(values)})
        raise TrainingError(f'each step is to cost {name!r}{suggestion(name, known)}: the '
                            'environment does not tell that number at every step; its info has '
                            f'{", ".join(known) or "no number"}')
    return cost


def _is_number(values: Any) -> bool:
    """Return whether each environment has said one number."""
    return isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in 'fiub'


def environment_maker(env_id: str, env_module: str = '', render_mode: str | None = None,
                      watch: Watch | None = None, arguments: Mapping[str, Any] = NOTHING,
                      judging: bool = False) -> Callable[[], gymnasium.Env]:
    """
    Return a function that makes the environment, whose faults are named.

    :param env_id: as registered with Gymnasium.
    :param env_module: Python module whose import registers it; empty where none is needed.
    :param render_mode: as Gymnasium has it; None for an environment that is not drawn.
    :param watch: notices where it does not return from a call; None for nobody.
    :param arguments: what it is made with besides, by name.
    :param judging: policies are to be judged or shown in it, while another one may train: where
        there is only one, as a running graph, this makes its simulated form.
    :raises TrainingError: no such module or environment.
    """
    if env_module:
        try:
            importlib.import_module(env_module)
        except ImportError as error:
            raise TrainingError(f'env_module {env_module!r} cannot be imported: {error}; give the '
                                'module that registers the environment') from error
    try:
        gymnasium.spec(env_id)
    except gymnasium.error.Error as error:
        raise TrainingError(f'environment {env_id!r} is unknown: {error}. If a package registers '
                            'it, name that package with env_module:=...') from error

    given = dict(arguments) if render_mode is None else {**arguments, 'render_mode': render_mode}

    def make() -> gymnasium.Env:
        try:
            simulated = _simulated(env_id) if judging else None
            env = gymnasium.make(env_id, **given) if simulated is None else simulated(**given)
            return CheckedEnv(env, env_id, watch)
        except RlNodesError:
            raise
        except Exception as error:  # whatever its constructor meets
            text = ', '.join(f'{name}={value!r}' for name, value in given.items())
            raise TrainingError(f'environment {env_id!r} cannot be made'
                                f'{text and f" with {text}"}: {type(error).__name__}: {error}'
                                ) from error

    return make


def make_envs(make: Callable[[], gymnasium.Env], count: int, env_id: str = '',
              env_module: str = '', ray_workers: int = 0,
              arguments: Mapping[str, Any] = NOTHING) -> VectorEnv:
    """
    Return ``count`` environments that reset within the step that ends an episode.

    :param make: makes one of them, to be stepped in turn in this process.
    :param env_id: where the environment of this id offers a vector form of its own that resets
        like this, as ``rl_nodes/...`` do with worker processes, that is used for several.
    :param env_module: module whose import registers the id.
    :param ray_workers: Ray actors to step them in, see ``envs/ray_env.py``; 0 for none.
    :param arguments: as of :func:`environment_maker`, where not ``make`` makes them.
    """
    if ray_workers:
        return RayVectorEnv(env_id, env_module, count, ray_workers, arguments)
    if count > 1 and env_id and _simulated(env_id):
        raise TrainingError(f'{count} environments {env_id}: there is one of it only; n_envs:=1')
    if count > 1 and env_id and _offers_vector(gymnasium.spec(env_id)):
        return gymnasium.make_vec(env_id, count, vectorization_mode='vector_entry_point',
                                  **arguments)
    return SerialVectorEnv([make] * count)


def _simulated(env_id: str) -> Callable[..., gymnasium.Env] | None:
    """Return what makes the simulated form of an environment of which there is only one."""
    entry = gymnasium.spec(env_id).entry_point
    form = load_env_creator(entry) if isinstance(entry, str) else entry
    return getattr(form, 'simulated', None)


def _offers_vector(spec: EnvSpec) -> bool:
    """Return whether a vector form exists, equals the single one and resets in the same step."""
    entry = spec.vector_entry_point
    if entry is None or spec.additional_wrappers or spec.max_episode_steps is not None:
        return False
    form = load_env_creator(entry) if isinstance(entry, str) else entry
    return getattr(form, 'metadata', {}).get('autoreset_mode') is AutoresetMode.SAME_STEP


def contract_of(env: gymnasium.Env, task: str) -> Contract:
    """
    Return the contract of an environment.

    That is its own, where the innermost environment has the attribute ``contract``; otherwise one
    made from its spaces, with no robot, no joints and no physical time.

    :param task: name of the task in a contract made here.
    :raises TrainingError: a space that no policy here can serve.
    """
    own = getattr(env.unwrapped, 'contract', None)
    if isinstance(own, Contract):
        require_flat(own)
    observation = _box(env.observation_space, 'observation', task)
    if isinstance(env.action_space, spaces.Discrete):
        first, count = float(env.action_space.start), int(env.action_space.n)
        action = ArraySpec(name='action', elements=('action',), units=('1',), low=(first,),
                           high=(first + count - 1,), dtype='int64')
    else:
        box = _box(env.action_space, 'action', task)
        if not (np.isfinite(box.low).all() and np.isfinite(box.high).all()):
            raise TrainingError(
                f'{task}: action space {box} is unbounded; learners need finite bounds. Declare '
                'the real limits, by gymnasium.wrappers.TransformAction if need be')
        if box.dtype.kind != 'f':
            raise TrainingError(
                f'{task}: action space {box} takes whole numbers, learners give any. Number the '
                'choices in one Discrete space, or round by gymnasium.wrappers.TransformAction')
        action = _spec('action', box)
    if isinstance(own, Contract):
        return own
    return Contract(robot='', task=task, rate_hz=0.0, control_mode='effort', joints=(),
                    observation=_spec('observation', observation), action=action,
                    action_kind='environment')


def _box(space: spaces.Space, role: str, task: str) -> spaces.Box:
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0]:
        return space
    if role == 'observation':
        expected, advice = '', 'Flatten it with gymnasium.wrappers.FlattenObservation'
    else:
        expected, advice = ' or one Discrete', (
            'Number the combinations of choices, or join the parts, by '
            'gymnasium.wrappers.TransformAction')
    raise TrainingError(f'{task}: the {role} space is {space}; expected a Box with one dimension '
                        f'that is not empty{expected}. {advice}')


def _spec(name: str, box: spaces.Box) -> ArraySpec:
    size = box.shape[0]

    def finite(values: np.ndarray) -> tuple[float | None, ...]:
        return tuple(float(value) if np.isfinite(value) else None for value in values)

    return ArraySpec(name=name, elements=tuple(f'{name}/{i}' for i in range(size)),
                     units=('1',) * size, low=finite(box.low), high=finite(box.high))
