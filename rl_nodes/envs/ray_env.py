# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Environments in Ray actors, on this machine or on a cluster, as one vector environment.

Each actor steps a share of them in turn. Which actor an environment is in changes no bit of what
it does. Ray is optional and imported when such an environment is made; it starts by itself on this
machine, or joins the cluster that ``RAY_ADDRESS`` names.
"""

from collections.abc import Mapping, Sequence
import importlib
from types import MappingProxyType
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
import numpy as np
from rl_nodes.cluster import require_ray
from rl_nodes.core.errors import BackendError
from rl_nodes.envs.checked_env import CheckedEnv

_TIMEOUT_S = 120.0  # for an actor's answer; the first one includes the start of its process


class RayVectorEnv(VectorEnv):
    """
    Environments that reset within the step that ends an episode, in Ray actors.

    :param env_id: as registered with Gymnasium.
    :param env_module: module whose import registers it; empty where Gymnasium knows it.
    :param count: N, environments.
    :param workers: actors, at most N.
    :param arguments: what each environment is made with besides, by name.
    :raises ConfigError: Ray is not installed.
    :raises BackendError: an actor does not start, or fails later.
    """

    metadata = {'autoreset_mode': AutoresetMode.SAME_STEP}

    def __init__(self, env_id: str, env_module: str, count: int, workers: int,
                 arguments: Mapping[str, Any] = MappingProxyType({})) -> None:
        self._ray = require_ray()
        self.num_envs = count
        shares = np.array_split(np.arange(count), min(workers, count))
        self._slices = [slice(int(share[0]), int(share[-1]) + 1) for share in shares]
        actor = self._ray.remote(EnvShare).options(num_cpus=0, scheduling_strategy='SPREAD')
        self._actors = [actor.remote(env_id, env_module, len(share), dict(arguments))
                        for share in shares]
        spaces = self._answers([self._actors[0].spaces.remote()])[0]
        self.single_observation_space, self.single_action_space = spaces
        self.observation_space = batch_space(spaces[0], count)
        self.action_space = batch_space(spaces[1], count)

    def reset(self, *, seed: int | Sequence[int | None] | None = None,
              options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset all environments; a seed is one number, counted up, or one per environment."""
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + i for i in range(self.num_envs)]
        answers = self._answers([actor.reset.remote(list(seed[where]), options)
                                 for actor, where in zip(self._actors, self._slices)])
        return np.concatenate([answer[0] for answer in answers]), self._info(answers)

    def step(self, actions: np.ndarray
             ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step all environments."""
        answers = self._answers([actor.step.remote(np.asarray(actions)[where])
                                 for actor, where in zip(self._actors, self._slices)])
        columns = [np.concatenate([answer[i] for answer in answers]) for i in range(4)]
        return columns[0], columns[1], columns[2], columns[3], self._info(answers)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of every environment to the same value."""
        self._answers([actor.set_attr.remote(name, values) for actor in self._actors])

    def close_extras(self, **_: Any) -> None:
        """End the actors; Ray itself stays for others."""
        for actor in self._actors:
            self._ray.kill(actor)

    def _answers(self, references: list[Any]) -> list[Any]:
        try:
            return self._ray.get(references, timeout=_TIMEOUT_S)
        except self._ray.exceptions.RayError:
            self._blame(references)
            raise

    def _blame(self, references: list[Any]) -> None:
        """Raise a BackendError that names the environments whose actor failed or is silent."""
        silent = []
        for where, reference in zip(self._slices, references):
            who = f'the Ray actor of the environments {where.start} to {where.stop - 1}'
            try:
                self._ray.get(reference, timeout=0.0)
            except self._ray.exceptions.GetTimeoutError:
                silent.append(who)
            except self._ray.exceptions.RayError as error:
                said = str(error).strip().splitlines()[-1]
                raise BackendError(f'{who} failed: {said.rpartition("errors.BackendError: ")[2]}'
                                   ) from error
        if silent:
            raise BackendError(f'{silent[0]} has not answered for {_TIMEOUT_S:.0f} s')

    def _info(self, answers: list[Any]) -> dict[str, Any]:
        sizes = [where.stop - where.start for where in self._slices]
        return joined([answer[-1] for answer in answers], sizes)


class EnvShare:
    """The environments of one actor."""

    def __init__(self, env_id: str, env_module: str, count: int,
                 arguments: dict[str, Any]) -> None:
        if env_module:
            importlib.import_module(env_module)
        self._envs = SyncVectorEnv([lambda: CheckedEnv(gymnasium.make(
            env_id, **arguments), env_id)] * count,
                                   autoreset_mode=AutoresetMode.SAME_STEP)

    def spaces(self) -> tuple[gymnasium.Space, gymnasium.Space]:
        """Return the spaces of a single environment: observation, action."""
        return self._envs.single_observation_space, self._envs.single_action_space

    def reset(self, seeds: list[int | None], options: dict[str, Any] | None) -> tuple[Any, ...]:
        """Reset all; copies, since the next step overwrites what Gymnasium returns."""
        observation, info = self._envs.reset(seed=seeds, options=options)
        return observation.copy(), info

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        """Step all."""
        observation, *rest = self._envs.step(actions)
        return (observation.copy(), *rest)

    def set_attr(self, name: str, value: Any) -> None:
        """Set an attribute of all."""
        self._envs.set_attr(name, value)


def joined(infos: Sequence[dict[str, Any]], sizes: Sequence[int]) -> dict[str, Any]:
    """
    Return what one vector environment would say instead of several.

    :param infos: of each share; a key that one lacks holds for none of its environments.
    :param sizes: environments of each share.
    """
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for info in infos for key in info):
        like = next(info[key] for info in infos if key in info)
        if isinstance(like, dict):
            found[key] = joined([info.get(key, {}) for info in infos], sizes)
            continue
        like = np.asarray(like)
        found[key] = np.concatenate([
            np.asarray(info[key]) if key in info else _nothing(like, size)
            for info, size in zip(infos, sizes)])
    return found


def _nothing(like: np.ndarray, size: int) -> np.ndarray:
    shape = (size, *like.shape[1:])
    return np.full(shape, None) if like.dtype == object else np.zeros(shape, like.dtype)
