# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Training without ROS: any Gymnasium environment, one process.

This is the function behind ``rl_nodes train env:=Pendulum-v1 algorithm:=sac``.
"""

from collections.abc import Iterator, Sequence
import contextlib
from functools import partial
from pathlib import Path
import re
import signal
import threading
from types import FrameType
from typing import Annotated, Any

import gymnasium
import msgspec
from rl_nodes.algorithms.base import Learner
from rl_nodes.algorithms.on_policy import OnPolicyLearner
from rl_nodes.algorithms.partners import Partners
from rl_nodes.core.errors import BackendError, TrainingError
from rl_nodes.envs.checked_env import Watch
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.runs.record import folder_of
from rl_nodes.training import demonstrations
from rl_nodes.training.curriculum import Curriculum, why_in_vain
from rl_nodes.training.evaluation import evaluate, Evaluation, FILM_SEED
from rl_nodes.training.experiment import assist, conduct, Experiment, TrainResult
from rl_nodes.training.film import write_film
from rl_nodes.training.limits import Limits, Target
from rl_nodes.training.on_policy import RolloutSource
from rl_nodes.training.progress import Progress
from rl_nodes.training.settings import load_settings, TrainSettings
from rl_nodes.training.sources import contract_of, environment_maker, EnvSource, make_envs
import torch

_Count = Annotated[int, msgspec.Meta(ge=1)]

MOST_AT_ONCE = 32  # steps of an environment, where gradient steps are rarer than these


class TrainOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What to train and for how long.

    :param env: id of a Gymnasium environment.
    :param env_module: module whose import registers it, rl_nodes.envs for ``rl_nodes/...``; empty
        where Gymnasium knows it.
    :param env_arguments: what it is made with besides, each an argument of its own with a value
        as in YAML: env.backend:=mujoco env.max_episode_steps:=200
    :param algorithm: name of a file in ``config/train`` or path of one.
    :param changes: settings that hold instead of that file's, each an argument of its own, as
        learner.discount:=0.98 loop.evaluate_every_steps:=2000
    :param run_dir: everything is written here; empty makes one below
        ``runs/`` named after environment, algorithm and time.
    :param seed: of every random draw.
    :param steps: control steps in all; None for no limit.
    :param time_budget_s: wall time in all [s]; None for no limit.
    :param target: evaluation result at which to stop: a success rate from 0 to 1 where the
        environment reports ``success`` in its info, otherwise an undiscounted return.
    :param n_envs: environments stepped together: in worker processes where the environment offers
        that (``rl_nodes/...`` do), otherwise in turn. None takes ``loop.n_envs`` of the settings.
    :param ray_workers: step them in so many Ray actors instead, here or on the cluster that
        RAY_ADDRESS names, with the same bits; 0 for none. Needs the extra ``ray``.
    :param demonstrations: .npz file or store of transitions to learn from besides, as ``rl_nodes
        dataset export`` makes it of recorded episodes; empty for none.
    :param prefill: such transitions for the replay buffer to begin with, which newer ones replace
        in time; empty for none.
    :param film: leave rollout.gif, one episode of the best policy, where the environment can be
        drawn.
    :param resume: go on from the newest checkpoint in ``run_dir``.
    :param threads: threads of torch; one is fastest for small networks.
    """

    env: str
    env_module: str = ''
    env_arguments: dict[str, Any] = {}
    algorithm: str = 'sac'
    changes: dict[str, str] = {}
    run_dir: str = ''
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    steps: _Count | None = None
    time_budget_s: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    target: float | None = None
    n_envs: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    ray_workers: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    demonstrations: str = ''
    prefill: str = ''
    film: bool = True
    resume: bool = False
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1


def train(options: TrainOptions, progress: Progress | None = None,
          stop: threading.Event | None = None) -> TrainResult | None:
    """
    Train, evaluate, and leave the best policy with a report in the run directory.

    Started by ``torchrun`` in several processes, these learn together, and only the first one
    evaluates, writes and returns a result. Ctrl-C ends the run in good order when this is called
    in the main thread.

    :param progress: None for the live line on standard error.
    :param stop: ends the run from another thread.
    :raises ConfigError: the algorithm's settings are wrong.
    :raises TrainingError: the environment does not fit, or learning diverged too often.
    :raises CheckpointError: nothing to resume from, or other settings than the checkpoint's.
    """
    torch.set_num_threads(options.threads)
    settings = load_settings(options.algorithm, options.changes)
    n_envs, cost = options.n_envs or settings.loop.n_envs, settings.cost
    progress = Progress() if progress is None else progress
    watch = Watch(settings.loop.source_timeout_s, progress.say)
    maker = partial(environment_maker, options.env, options.env_module,
                    arguments=options.env_arguments)
    make = maker(watch=watch)
    evaluation_env = maker(watch=watch, judging=True)()
    curriculum, task = settings.loop.curriculum, getattr(evaluation_env.unwrapped, 'task', None)
    if why := why_in_vain(curriculum, getattr(task, 'variation_names', ()), options.env):
        evaluation_env.close()
        raise TrainingError(why)
    name = re.sub(r'[^A-Za-z0-9_.-]+', '_', options.env)
    stop = threading.Event() if stop is None else stop

    def make_source(learner: Learner, steps_before: int) -> EnvSource | RolloutSource:
        rank = 0
        if partners is not None:
            learner.join(partners, options.seed)
            rank = partners.rank
        envs = make_envs(make, n_envs, options.env, options.env_module, options.ray_workers,
                         options.env_arguments)
        if curriculum.active:
            envs.set_attr('difficulty', Curriculum(curriculum).difficulty)
        if not isinstance(learner, OnPolicyLearner):
            steps = min(MOST_AT_ONCE, max(1, int(1 / (settings.loop.updates_per_step * n_envs))))
            return EnvSource(envs, learner, options.seed, steps_before, steps, cost, rank)
        return RolloutSource(envs, learner, options.seed, steps_before, rank, cost)

    def evaluator(bundle: PolicyBundle, seeds: Sequence[int]) -> Evaluation:
        return evaluate(evaluation_env, PolicyRuntime(bundle), seeds, settings.learner.discount,
                        cost)

    def film(policy: PolicyBundle, path: Path) -> None:
        if 'rgb_array' not in evaluation_env.metadata.get('render_modes', ()):
            raise TrainingError(f'{options.env} cannot be drawn')
        env = maker('rgb_array', judging=True)()
        try:
            write_film(env, PolicyRuntime(policy), FILM_SEED, path)
        finally:
            env.close()

    contract = contract_of(evaluation_env, name)
    partners = _partners(settings, options.ray_workers)
    experiment = Experiment(
        name=name, folder=_folder(options, f'{name}_{settings.algorithm}', partners),
        contract=contract, settings=settings, seed=options.seed,
        limits=Limits(options.steps, options.time_budget_s,
                      _target(options.target, evaluation_env)),
        resume=options.resume, identity={'env': options.env, 'n_envs': n_envs, **(
            {'env_arguments': options.env_arguments} if options.env_arguments else {})},
        partners=partners,
        **{name: demonstrations.load(Path(given).expanduser(), contract) for name, given in (
            ('demonstrations', options.demonstrations), ('prefill', options.prefill)) if given})
    try:
        if partners is not None and partners.rank:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first one says when to end
            with watch:
                assist(experiment, make_source, partners)
            return None
        with _stop_on_interrupt(stop, progress, watch), watch:
            return conduct(experiment, make_source, evaluator, progress, stop,
                           film if options.film else None)
    finally:
        evaluation_env.close()
        if partners is not None:
            partners.close()


def _partners(settings: TrainSettings, ray_workers: int) -> Partners | None:
    """Return those that ``torchrun`` has started; TrainingError where they cannot learn so."""
    partners = Partners.of_environment()
    if partners is not None and (settings.loop.curriculum.active or ray_workers):
        raise TrainingError('several processes learn together without loop.curriculum and '
                            'ray_workers')
    return partners


def _folder(options: TrainOptions, name: str, partners: Partners | None) -> Path:
    if partners is not None:
        return Path(partners.first_tells('' if partners.rank else str(
            _folder(options, name, None).absolute())))
    if options.resume and not options.run_dir:
        raise TrainingError('resume:=true needs run_dir:=... to know what to resume')
    folder = folder_of(options.run_dir, name)
    if not options.resume and any((folder / 'checkpoints').rglob('checkpoint_*.pt')):
        raise TrainingError(f'{folder} holds another run; add resume:=true to go on with it, or '
                            'give another run_dir')
    return folder


def _target(value: float | None, env: gymnasium.Env) -> Target | None:
    """Return the target in the metric that the environment offers, found by one step."""
    if value is None:
        return None
    env.reset(seed=0)
    info = env.step(env.action_space.sample())[4]
    return Target('success_rate' if 'success' in info else 'return', value)


@contextlib.contextmanager
def _stop_on_interrupt(stop: threading.Event, progress: Progress, watch: Watch) -> Iterator[None]:
    """
    Let the first Ctrl-C end the run in good order; the second one ends it at once.

    :raises BackendError: at the first one, where an environment hangs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, previous)
        if hanging := watch.hangs(frame):
            raise BackendError(f'stopped because {hanging}')
        progress.say('stopping: writing checkpoint and report; Ctrl-C again to quit at once')

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
