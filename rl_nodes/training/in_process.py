# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Training without ROS: any Gymnasium environment, one process.

This is the function behind ``rl_nodes train env:=Pendulum-v1 algorithm:=sac``.
"""

from collections.abc import Iterator, Sequence
import contextlib
import logging
from pathlib import Path
import re
import signal
import threading
import time
from typing import Annotated, Any

import gymnasium
import msgspec
import numpy as np
from rl_nodes.core.errors import CheckpointError, TrainingError
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.training import report
from rl_nodes.training.checkpoint import CheckpointStore, require_same
from rl_nodes.training.evaluation import evaluate, Evaluation
from rl_nodes.training.metrics import MetricSink
from rl_nodes.training.off_policy import run, RunResult
from rl_nodes.training.progress import Progress
from rl_nodes.training.session import Limits, Outputs, Session, Target
from rl_nodes.training.settings import load_settings, make_learner
from rl_nodes.training.sources import contract_of, environment_maker, EnvSource, make_envs
import torch

_log = logging.getLogger(__name__)
_Count = Annotated[int, msgspec.Meta(ge=1)]


class TrainOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What to train and for how long.

    :param env: id of a Gymnasium environment.
    :param env_module: module whose import registers it; empty where Gymnasium knows it.
    :param algorithm: name of a file in ``config/train`` or path of one.
    :param run_directory: everything is written here; empty makes one below
        ``runs/`` named after environment, algorithm and time.
    :param seed: of every random draw.
    :param steps: control steps in all; None for no limit.
    :param time_budget_s: wall time in all [s]; None for no limit.
    :param target: evaluation result at which to stop: a success rate from 0 to 1 where the
        environment reports ``success`` in its info, otherwise an undiscounted return.
    :param n_envs: environments stepped in turn.
    :param resume: go on from the newest checkpoint in ``run_directory``.
    :param threads: threads of torch; one is fastest for small networks.
    """

    env: str
    env_module: str = ''
    algorithm: str = 'sac'
    run_directory: str = ''
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    steps: _Count | None = None
    time_budget_s: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    target: float | None = None
    n_envs: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    resume: bool = False
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1


class TrainResult(msgspec.Struct, frozen=True):
    """
    What came of it.

    :param reason: ``target``, ``steps``, ``time`` or ``stopped``.
    :param run_directory: where everything lies.
    :param policy: the best policy's ONNX file; None where none was good enough to export.
    :param steps: control steps.
    :param updates: gradient steps.
    :param elapsed_s: wall time of training [s].
    :param evaluation: the best policy on fresh episodes, seen through ONNX Runtime.
    """

    reason: str
    run_directory: Path
    policy: Path | None
    steps: int
    updates: int
    elapsed_s: float
    evaluation: Evaluation | None


def train(options: TrainOptions, progress: Progress | None = None,
          stop: threading.Event | None = None) -> TrainResult:
    """
    Train, evaluate, and leave the best policy with a report in the run directory.

    Ctrl-C ends the run in good order when this is called in the main thread.

    :param progress: None for the live line on standard error.
    :param stop: ends the run from another thread.
    :raises ConfigError: the algorithm's settings are wrong.
    :raises TrainingError: the environment does not fit, or learning diverged too often.
    :raises CheckpointError: nothing to resume from, or other settings than the checkpoint's.
    """
    torch.set_num_threads(options.threads)
    settings = load_settings(options.algorithm)
    make = environment_maker(options.env, options.env_module)
    evaluation_env = make()
    name = re.sub(r'[^A-Za-z0-9_.-]+', '_', options.env)
    contract = contract_of(evaluation_env, name)
    learner = make_learner(settings, contract, options.seed)
    folder = _run_directory(options, f'{name}_{settings.algorithm}')
    target = _target(options.target, evaluation_env)
    identity = {'settings': msgspec.to_builtins(settings),
                'contract': contract.fingerprint(), 'seed': options.seed,
                'env': options.env, 'n_envs': options.n_envs}

    store = CheckpointStore(folder / 'checkpoints', settings.loop.checkpoints_kept)
    saved = _saved(store, options.resume, identity)
    steps_before = 0 if saved is None else int(saved['steps'])
    progress = Progress() if progress is None else progress
    stop = threading.Event() if stop is None else stop
    metrics = MetricSink(folder, None if saved is None else steps_before)
    outputs = Outputs(folder / 'policy', store, metrics, progress,
                      lambda text: progress.say(f'ALARM: {text}'), identity)

    def evaluator(bundle: PolicyBundle, seeds: Sequence[int]) -> Evaluation:
        return evaluate(evaluation_env, PolicyRuntime(bundle), seeds, settings.learner.discount)

    # A resumed run must not repeat the first part's episodes.
    seeds = np.random.SeedSequence([options.seed, steps_before]).generate_state(options.n_envs)
    source = EnvSource(make_envs(make, options.n_envs), learner,
                       [int(seed) >> 1 for seed in seeds])
    exporter = PolicyExporter(learner.policy_module(), contract, name, settings.algorithm,
                              'squashed_gaussian')
    session = Session(learner, source, exporter, settings.loop,
                      Limits(options.steps, options.time_budget_s, target), outputs, evaluator)
    if saved is not None:
        session.load_state_dict(saved)
        progress.say(f'resumed at step {session.steps:,}')
    try:
        with _stop_on_interrupt(stop, progress):
            result = run(session, stop)
        _write_report(folder, name, settings.algorithm, result, target, options, identity)
    finally:
        source.close()
        evaluation_env.close()
        metrics.close()
        progress.close()
    policy = session.policy_path if session.policy_path.is_file() else None
    return TrainResult(result.reason, folder, policy, result.steps, result.updates,
                       result.elapsed_s, result.evaluation)


def _run_directory(options: TrainOptions, name: str) -> Path:
    if options.run_directory:
        folder = Path(options.run_directory).expanduser()
    elif options.resume:
        raise TrainingError('resume:=true needs run_directory:=... to know what to resume')
    else:
        folder = Path('runs') / f'{name}_{time.strftime("%Y%m%d_%H%M%S")}'
    if not options.resume and (folder / 'checkpoints').is_dir() \
            and any((folder / 'checkpoints').glob('checkpoint_*.pt')):
        raise TrainingError(f'{folder} holds another run; add resume:=true to go on with it, or '
                            'give another run_directory')
    return folder


def _target(value: float | None, env: gymnasium.Env) -> Target | None:
    """Return the target in the metric that the environment offers, found by one step."""
    if value is None:
        return None
    env.reset(seed=0)
    info = env.step(env.action_space.sample())[4]
    return Target('success_rate' if 'success' in info else 'return', value)


def _saved(store: CheckpointStore, resume: bool, identity: dict[str, Any]
           ) -> dict[str, Any] | None:
    if not resume:
        return None
    found = store.load_newest()
    if found is None:
        raise CheckpointError(f'nothing to resume: no checkpoint in {store.folder}')
    state, path = found
    require_same(state['identity'], identity, str(path))
    return state


@contextlib.contextmanager
def _stop_on_interrupt(stop: threading.Event, progress: Progress) -> Iterator[None]:
    """Let the first Ctrl-C end the run in good order; the second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, previous)
        progress.say('stopping: writing checkpoint and report; Ctrl-C again to quit at once')

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _write_report(folder: Path, name: str, algorithm: str, result: RunResult,
                  target: Target | None, options: TrainOptions, identity: dict[str, Any]) -> None:
    title = f'{name}, {algorithm.upper()}, seed {options.seed}'
    values = {key: value for key, value in msgspec.to_builtins(options).items()
              if key != 'run_directory'}
    for section in ('learner', 'loop'):
        values |= {f'{section}.{key}': value
                   for key, value in identity['settings'][section].items()}
    try:
        report.write_learning_curve(folder, title, target)
        report.write_summary(folder, title, result, target, values)
    except OSError as error:
        _log.error('%s: the report could not be written: %s', folder, error)
