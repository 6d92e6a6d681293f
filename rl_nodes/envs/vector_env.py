# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Many copies of :class:`SimEnv` in worker processes, stepped together over shared memory."""

from collections.abc import Sequence
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
import msgspec
import numpy as np
from rl_nodes.backends import make_robot
from rl_nodes.core.config import suggestion
from rl_nodes.core.errors import BackendError, ConfigError
from rl_nodes.envs.shared_blocks import BlockLayout, NO_SEED, SharedBlocks
from rl_nodes.envs.sim_env import INFO_FLAGS, refuse_pictures, spaces_of
from rl_nodes.envs.vector_worker import Assignment, DONE, READY, RENDER, RESET, STEP
from rl_nodes.safety.budget import cost_name
from rl_nodes.tasks import load_task
from rl_nodes.tasks.curriculum import require_difficulty

CLOSE_GRACE_S = 2.0  # a healthy worker needs some milliseconds


def seeds_of(seed: int, count: int) -> list[int]:
    """Return the seed of each environment: children of ``SeedSequence(seed)``, 32 bits each."""
    return [int(child.generate_state(1)[0])
            for child in np.random.SeedSequence(seed).spawn(count)]


class SimVectorEnv(VectorEnv):
    """
    N environments of one robot and task, spread over worker processes.

    Every environment gives the same bits as a lone :class:`SimEnv` with the same seed and
    actions, however many workers there are. ``reset(seed=s)`` seeds environment i with
    ``seeds_of(s, N)[i]``; a list gives each its own.

    Autoreset is ``SAME_STEP``: an environment whose episode ends is reset within that step. The
    observation returned is then the first of the next episode; the last one is in
    ``info['final_obs'][i]`` and what that step reported in ``info['final_info']``, both masked by
    ``info['_final_obs']``.

    Workers are programs of their own, neither forked nor pickled: no ``if __name__ ==
    '__main__'`` is needed, and threads of this process do not matter. Their memory has no name
    and their pipes close with this process, so nothing is left behind however it ends.

    :param num_envs: N, how many environments.
    :param robot: see :class:`SimEnv`, as are ``task``, ``backend`` and ``render_mode``.
    :param workers: processes, at most N; None for as many as this process may use processors.
    :param timeout_s: a worker that does not answer for this long has failed [s].
    :raises ConfigError: a number out of its range, unknown robot, task or backend.
    :raises BackendError: a worker died, failed or does not answer; this environment has then
        closed itself.
    """

    metadata = {'render_modes': ['rgb_array'], 'render_fps': 50,
                'autoreset_mode': AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int, robot: str, task: str, backend: str = 'pybullet',
                 render_mode: str | None = None, workers: int | None = None,
                 timeout_s: float = 60.0) -> None:
        self._processes: list[subprocess.Popen] = []
        self._commands: list[int] = []
        self._answers: list[int] = []
        self._needs_reset, self._broken = True, ''
        if workers is None:
            workers = max(1, min(num_envs, len(os.sched_getaffinity(0))))
        if not (num_envs >= 1 and 1 <= workers <= num_envs and timeout_s > 0):
            raise ConfigError(f'num_envs = {num_envs}, workers = {workers}, timeout_s = '
                              f'{timeout_s}: expected 1 <= workers <= num_envs and a positive '
                              'time')
        if render_mode not in (None, *self.metadata['render_modes']):
            raise ConfigError(f'render_mode = {render_mode!r}: several environments at once have '
                              f'{", ".join(self.metadata["render_modes"])} or None')
        model = load_task(robot, task)
        refuse_pictures(model.contract, 'a vector environment')
        make_robot(backend, model.robot).close()  # says here what each worker would say
        self.num_envs = num_envs
        self.contract = model.contract
        self.render_mode = render_mode
        self.metadata = {**self.metadata, 'render_fps': round(self.contract.rate_hz)}
        self.single_observation_space, self.single_action_space = spaces_of(self.contract)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._info_names = (*INFO_FLAGS, *model.term_names, *map(
            cost_name, model.robot.config.safety.costs))
        self._variation_names = model.variation_names
        self._timeout_s = timeout_s
        privileged = self.contract.privileged
        self._layout = BlockLayout(num_envs, workers, *self.contract.observation.shape,
                                   *self.contract.action.shape, len(self._info_names),
                                   0 if privileged is None else len(privileged.elements),
                                   len(model.variation_names), render_mode is not None)
        self._shares = [range(num_envs * w // workers, num_envs * (w + 1) // workers)
                        for w in range(workers)]
        memory = os.memfd_create('rl_nodes')
        try:
            self._blocks = SharedBlocks(self._layout, memory)
            self._blocks.difficulty[:] = 1.0
            for worker in range(workers):
                self._start(worker, robot, task, backend, memory)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(memory)
        self._poll = select.poll()
        for answers in self._answers:
            self._poll.register(answers, select.POLLIN)
        self._await(READY)

    def reset(self, *, seed: int | Sequence[int | None] | None = None,
              options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Start an episode everywhere.

        :param seed: of all environments, see the class; a sequence gives one to each.
        :param options: none are known; partial resets are not needed, see ``autoreset_mode``.
        :return: observations (N, O) float32, and infos as those of lone environments.
        """
        self._require_open()
        if options:
            raise gymnasium.error.Error(f'options {", ".join(options)}: this environment has none')
        if isinstance(seed, (int, np.integer)):
            super().reset(seed=int(seed))
            seed = seeds_of(int(seed), self.num_envs)
        seeds = [None] * self.num_envs if seed is None else list(seed)
        if len(seeds) != self.num_envs:
            raise gymnasium.error.Error(f'{len(seeds)} seeds came for {self.num_envs} '
                                        'environments')
        self._blocks.seed[:] = [NO_SEED if value is None else value for value in seeds]
        self._order(RESET)
        self._needs_reset = False
        everywhere = np.ones(self.num_envs, bool)
        return self._blocks.observation.copy(), {
            **self._privileged(self._blocks.privileged, everywhere), **self._variation(everywhere)}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray,
                                                 dict[str, Any]]:
        """
        Step every environment.

        :param actions: shape (N, A).
        :return: observations (N, O) float32, rewards (N,) float64, terminated and truncated (N,)
            bool, infos; all of them copies.
        """
        self._require_open()
        if self._needs_reset:
            raise gymnasium.error.ResetNeeded('call reset() before step()')
        actions = np.asarray(actions, np.float32)
        if actions.shape != self._blocks.action.shape:
            raise gymnasium.error.InvalidAction(
                f'actions have shape {list(actions.shape)}, expected '
                f'{list(self._blocks.action.shape)}')
        self._blocks.action[:] = actions
        self._order(STEP)
        blocks = self._blocks
        terminated, truncated = blocks.terminated.copy(), blocks.truncated.copy()
        return (blocks.observation.copy(), blocks.reward.copy(), terminated, truncated,
                self._infos(terminated | truncated))

    def set_attr(self, name: str, values: Any) -> None:
        """
        Set an attribute of every environment, as Gymnasium's own vector environments do.

        :param name: ``difficulty``, see :class:`SimEnv`; there is no other.
        :param values: one value for all, or a list or tuple of one for each.
        """
        if name != 'difficulty':
            raise gymnasium.error.Error(f'attribute {name!r}{suggestion(name, ["difficulty"])} '
                                        'cannot be set; difficulty can')
        self._require_open()
        each = values if isinstance(values, (list, tuple)) else [values] * self.num_envs
        if len(each) != self.num_envs:
            raise gymnasium.error.Error(f'{len(each)} values of {name} came for {self.num_envs} '
                                        'environments')
        self._blocks.difficulty[:] = [require_difficulty(value) for value in each]

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return one picture (480, 640, 3) uint8 per environment; None without a render mode."""
        if self.render_mode is None:
            return None
        self._require_open()
        self._order(RENDER)
        return tuple(self._blocks.picture.copy())

    def close_extras(self, **_kwargs: Any) -> None:
        """End the workers; those that do not end by themselves are killed."""
        for file in self._commands:
            os.close(file)
        deadline = time.monotonic() + (0.0 if self._broken else CLOSE_GRACE_S)
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for file in self._answers:
            os.close(file)
        self._processes, self._commands, self._answers = [], [], []
        self.__dict__.pop('_blocks', None)  # the last reference to the memory

    def _start(self, worker: int, robot: str, task: str, backend: str, memory: int) -> None:
        """Start one worker with the other ends of two new pipes."""
        commands, ours = os.pipe()
        self._commands.append(ours)
        ours, answers = os.pipe()
        self._answers.append(ours)
        share = self._shares[worker]
        assignment = Assignment(worker, share.start, len(share), str(robot), str(task), backend,
                                self.render_mode, self._info_names, self._layout, memory, commands,
                                answers)
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1',
                       'PYTHONPATH': os.pathsep.join(path or os.getcwd() for path in sys.path)}
        try:
            # A process group of its own: Ctrl-C is for this process, which ends the workers.
            self._processes.append(subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, '-m', 'rl_nodes.envs.vector_worker',
                 msgspec.json.encode(assignment).decode()],
                stdin=subprocess.DEVNULL, env=environment, process_group=0,
                pass_fds=(memory, commands, answers)))
        finally:
            os.close(commands)
            os.close(answers)

    def _require_open(self) -> None:
        """Refuse to go on with an environment that has no workers any more."""
        if self._broken:
            raise BackendError(f'{self._broken}; make another environment')
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError('this environment has been closed')

    def _order(self, command: bytes) -> None:
        """Give every worker a command and wait for all of them."""
        for worker, file in enumerate(self._commands):
            try:
                os.write(file, command)
            except BrokenPipeError:
                self._fail(worker)
        self._await(DONE)

    def _await(self, answer: bytes) -> None:
        """Wait until every worker has answered; BackendError names the one that will not."""
        waiting = dict(zip(self._answers, range(len(self._answers))))
        deadline = time.monotonic() + self._timeout_s
        while waiting:
            ready = self._poll.poll(max(0.0, deadline - time.monotonic()) * 1e3)
            for file, _ in ready:
                got = os.read(file, 1)
                if got != answer:
                    self._fail(self._answers.index(file))
                waiting.pop(file)
            if not ready:
                self._fail(next(iter(waiting.values())), silent=True)

    def _fail(self, worker: int, silent: bool = False) -> None:
        """Say why a worker has failed and end them all."""
        process, share = self._processes[worker], self._shares[worker]
        name = (f'worker {worker} of {len(self._shares)} (process {process.pid}, environments '
                f'{share.start} to {share.stop - 1})')
        said = self._blocks.read_message(worker)
        if silent:
            why = f'has not answered for {self._timeout_s:g} s'
        elif said:
            why = f'failed: {said}'
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(CLOSE_GRACE_S)
            why = _end_of(process.poll())
        self._broken = f'{name} {why}'
        self.close()
        raise BackendError(self._broken)

    def _infos(self, ended: np.ndarray) -> dict[str, Any]:
        """Return the infos as Gymnasium's own vector environments give them."""
        privileged = self._privileged(self._blocks.privileged, np.ones(self.num_envs, bool))
        if not ended.any():
            return self._columns(~ended) | privileged
        final = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(ended):
            final[i] = self._blocks.final_observation[i].copy()
        final_info = self._columns(ended) | self._privileged(self._blocks.final_privileged, ended)
        infos = {'final_obs': final, '_final_obs': ended, 'final_info': final_info,
                 '_final_info': ended.copy(), **privileged, **self._variation(ended)}
        return infos if ended.all() else {**infos, **self._columns(~ended)}

    def _privileged(self, block: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return what only a critic or a teacher sees, zero outside of ``rows``, and its mask."""
        if self.contract.privileged is None:
            return {}
        return {'privileged': np.where(rows[:, None], block, np.float32(0.0)),
                '_privileged': rows.copy()}

    def _variation(self, rows: np.ndarray) -> dict[str, Any]:
        """Return what is different in the episodes that have begun in ``rows``."""
        if not self._variation_names:
            return {}
        values = np.where(rows[:, None], self._blocks.variation, 0.0)
        drawn = {key: value for column, name in enumerate(self._variation_names)
                 for key, value in ((name, values[:, column].copy()), (f'_{name}', rows.copy()))}
        return {'randomisation': drawn, '_randomisation': rows.copy()}

    def _columns(self, rows: np.ndarray) -> dict[str, Any]:
        """Return every info by name, zero outside of ``rows``, and its mask."""
        infos: dict[str, Any] = {}
        values = np.where(rows[:, None], self._blocks.info, 0.0)
        for column, name in enumerate(self._info_names):
            flag = name in INFO_FLAGS
            infos[name] = values[:, column].astype(bool) if flag else values[:, column].copy()
            infos[f'_{name}'] = rows.copy()
        return infos


def _end_of(code: int | None) -> str:
    if code is None:
        return 'has closed its pipe'
    if code >= 0:
        return f'ended with exit code {code}'
    return f'was killed by {signal.Signals(-code).name}'
