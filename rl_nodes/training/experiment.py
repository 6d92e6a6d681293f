# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
One training run from settings to report, wherever its experience comes from.

``in_process.py`` feeds it from Gymnasium environments, the trainer node from the ROS graph.
"""

from collections.abc import Callable
import contextlib
from dataclasses import replace
import hashlib
import logging
from pathlib import Path
import threading
from typing import Any

import msgspec
import numpy as np
from rl_nodes.algorithms.base import Learner, OffPolicyLearner
from rl_nodes.algorithms.partners import Partners
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BackendError, BundleError, CheckpointError, TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.memory import StateTensor
from rl_nodes.runs.record import flat, RunKeeper, RunRecord
from rl_nodes.safety.guard_file import read_guard
from rl_nodes.training import off_policy, on_policy, partnership, report
from rl_nodes.training.checkpoint import CheckpointStore, require_same
from rl_nodes.training.evaluation import Evaluation
from rl_nodes.training.limits import Limits
from rl_nodes.training.metrics import MetricSink
from rl_nodes.training.progress import Progress
from rl_nodes.training.recovery import Recovery
from rl_nodes.training.session import Evaluator, Outputs, Session
from rl_nodes.training.settings import make_learner, TrainSettings
from rl_nodes.training.sources import Source

_log = logging.getLogger(__name__)


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is trained, with what, for how long.

    :param name: of the policy and the report.
    :param folder: everything is written here.
    :param contract: what the policy will rely on.
    :param settings: of learner and loop.
    :param seed: of every random draw of the learner.
    :param limits: when to stop.
    :param resume: go on from the newest checkpoint in ``folder``.
    :param identity: whatever else must be the same when a run is resumed.
    :param demonstrations: transitions to learn from besides; None for none.
    :param prefill: transitions that the replay buffer of a new run begins with; None for none.
    :param partners: processes that learn together with this one; None where it learns alone.
    """

    name: str
    folder: Path
    contract: Contract
    settings: TrainSettings
    seed: int
    limits: Limits
    resume: bool = False
    identity: dict[str, Any] = {}
    demonstrations: TransitionBatch | None = None
    prefill: TransitionBatch | None = None
    partners: Partners | None = None


class TrainResult(msgspec.Struct, frozen=True):
    """
    What came of it.

    :param reason: ``target``, ``steps``, ``time`` or ``stopped``.
    :param run_dir: where everything lies.
    :param policy: the best policy's ONNX file; None where none was good enough to export.
    :param steps: control steps.
    :param updates: gradient steps.
    :param elapsed_s: wall time of training [s].
    :param evaluation: the best policy on fresh episodes, seen through ONNX Runtime.
    """

    reason: str
    run_dir: Path
    policy: Path | None
    steps: int
    updates: int
    elapsed_s: float
    evaluation: Evaluation | None


def conduct(experiment: Experiment, make_source: Callable[[Learner, int], Source],
            evaluator: Evaluator | None, progress: Progress, stop: threading.Event,
            film: Callable[[PolicyBundle, Path], None] | None = None) -> TrainResult:
    """
    Train, evaluate, and leave the best policy with a report in the experiment's folder.

    :param make_source: from (learner, control steps already made) to where experience comes from.
    :param evaluator: judges an exported policy; None where there is nothing to judge it in.
    :param progress: shows how it goes; closed at the end.
    :param stop: ends the run in good order.
    :param film: makes a moving picture of a policy; None for none.
    :raises TrainingError: learning diverged too often, and the last checkpoint is kept; or the
        policy could not be saved.
    :raises BackendError: an environment failed; what was learned until then is kept.
    :raises CheckpointError: nothing to resume from, or other settings than the checkpoint's.
    """
    folder, settings, contract = experiment.folder, experiment.settings, experiment.contract
    identity, store, saved = _begin(experiment)
    steps_before = 0 if saved is None else int(saved['steps'])

    record = _record(experiment, identity)
    with contextlib.ExitStack() as stack:
        stack.callback(progress.close)
        keeper = stack.enter_context(RunKeeper(folder, record))
        learner = _learner(experiment, progress.say)
        source = make_source(learner, steps_before)
        stack.callback(source.close)
        metrics = MetricSink(folder) if saved is None else MetricSink(
            folder, steps_before, saved['evaluated_steps'])
        stack.callback(metrics.close)
        outputs = Outputs(folder, store, metrics, progress,
                          lambda text: progress.say(f'ALARM: {text}'), identity)
        exporter = PolicyExporter(learner.policy_module(), contract, experiment.name,
                                  settings.algorithm, learner.sampling,
                                  noise_correlation=learner.noise_correlation,
                                  memory=tuple(StateTensor(f'{name}_in', f'{name}_out', shape)
                                               for name, shape in learner.memory.items()))
        session = Session(learner, source, exporter, settings.loop, experiment.limits, outputs,
                          evaluator)
        if saved is not None:
            session.load_state_dict(saved)
            progress.say(f'resumed at step {session.steps:,}')
        try:
            result = (on_policy if settings.on_policy else off_policy).run(session, stop)
        except BackendError:  # not the learner's fault, who goes on from here another time
            session.keep()
            raise
        if film is not None and result.evaluation is not None and result.reason != 'stopped':
            try:
                film(PolicyBundle.load(session.policy_path), folder / report.FILM)
            except (BackendError, BundleError, TrainingError, OSError) as error:
                progress.say(f'no {report.FILM}: {error}')
        title = f'{experiment.name}, {settings.algorithm.upper()}, seed {experiment.seed}'
        try:
            report.write_learning_curve(folder, title, experiment.limits.target)
            report.write_summary(folder, title, result, experiment.limits.target,
                                 {**record.settings, 'seed': experiment.seed})
        except OSError as error:
            progress.say(f'ALARM: the report could not be written to {folder}: {error}')
        if session.unsaved:
            raise TrainingError(f'training ended ({result.reason}), but {session.unsaved}')
        keeper.end(result.reason, result.evaluation and result.evaluation.summary())
    policy = session.policy_path if session.policy_path.is_file() else None
    return TrainResult(result.reason, folder, policy, result.steps, result.updates,
                       result.elapsed_s, result.evaluation)


def assist(experiment: Experiment, make_source: Callable[[Learner, int], Source],
           partners: Partners) -> None:
    """
    Learn beside the process that conducts the same experiment; only checkpoints are written here.

    :param make_source: as for :func:`conduct`; lets the learner join its partners.
    :raises PartnerError: another process has gone, perhaps since learning diverged too often.
    :raises CheckpointError: nothing to resume from, or other settings than the checkpoint's.
    """
    identity, store, saved = _begin(experiment)
    steps_before = 0 if saved is None else int(saved['steps'])
    learner = _learner(experiment, _log.info)
    source = make_source(learner, steps_before)

    def keep(steps: int) -> None:
        try:
            store.save({'identity': identity, 'learner': learner.state_dict(),
                        'buffer': learner.experience_state(), 'steps': steps}, steps)
        except CheckpointError as error:
            _log.error('%s', error)
        if experiment.settings.loop.checkpoint_every_steps is not None:
            source.restart(steps)

    try:
        if saved is not None:
            learner.load_state_dict(saved['learner'])
            learner.load_experience_state(saved['buffer'])
        one_round = (on_policy if experiment.settings.on_policy else off_policy).follow
        recovery = Recovery(learner, experiment.settings.loop.snapshot_every_updates)
        partnership.follow(learner, lambda: one_round(learner, source, partners, recovery),
                           partners, steps_before, keep, recovery)
    finally:
        source.close()


def _begin(experiment: Experiment
           ) -> tuple[dict[str, Any], CheckpointStore, dict[str, Any] | None]:
    """Return what must be the same on resume, where checkpoints lie, and that to resume from."""
    contract, settings, partners = experiment.contract, experiment.settings, experiment.partners
    identity = {'settings': msgspec.to_builtins(settings), 'contract': contract.fingerprint(),
                'seed': experiment.seed, **experiment.identity}
    for name in ('demonstrations', 'prefill'):
        if (given := getattr(experiment, name)) is not None:
            identity[name] = _digest(given)
    if guard := settings.penalty.guard:
        identity['guard'] = read_guard(Path(guard).expanduser(), contract).digest
    folder = experiment.folder / 'checkpoints'
    if partners is not None:
        identity['processes'] = partners.count
        partnership.require_alike(identity | {'resume': experiment.resume}, partners)
        if partners.rank:
            folder /= f'process_{partners.rank}'
    store = CheckpointStore(folder, settings.loop.checkpoints_kept)
    if not experiment.resume:
        return identity, store, None
    found = store.load_newest() if partners is None else partnership.newest_of_all(store, partners)
    if found is None:
        raise CheckpointError(f'nothing to resume: no checkpoint in {folder}' + (
            '' if partners is None else ', or not one of the same step for each process'))
    require_same(found[0]['identity'], identity, str(found[1]))
    return identity, store, found[0]


def _learner(experiment: Experiment, say: Callable[[str], None]) -> Learner:
    """Return a fresh learner with the experience that it is given."""
    settings = experiment.settings
    learner = make_learner(settings, experiment.contract, experiment.seed)
    if experiment.demonstrations is not None:
        count = learner.learn_from(_costing(experiment.demonstrations, settings.cost))
        say(f'learning from {count:,} demonstrated transitions, too')
    if experiment.prefill is not None and not experiment.resume:
        if not isinstance(learner, OffPolicyLearner):
            raise TrainingError(f'{learner.name} keeps no transitions, so there is nothing to '
                                'prefill; off-policy methods do')
        count = learner.observe(_costing(experiment.prefill, settings.cost))
        say(f'the replay buffer begins with {count:,} transitions')
    return learner


def _record(experiment: Experiment, identity: dict[str, Any]) -> RunRecord:
    """Return what the run says of itself while it goes on."""
    limits, contract = experiment.limits, experiment.contract
    settings = flat({
        **{key: value for key, value in identity.items() if key not in ('settings', 'seed')},
        'steps': limits.steps, 'time_budget_s': limits.time_s,
        'target': None if limits.target is None else str(limits.target), **identity['settings']})
    settings.pop('algorithm')
    return RunRecord(task=contract.task, robot=contract.robot, seed=experiment.seed,
                     algorithm=experiment.settings.algorithm, settings=settings)


def _costing(batch: TransitionBatch, cost: str) -> TransitionBatch:
    """Return given transitions with what they cost, where a column of another name says it."""
    if cost == 'limited' and batch.cost is None:
        return replace(batch, cost=batch.limited.astype(np.float32))
    return batch


def _digest(batch: TransitionBatch) -> str:
    """Return what tells these transitions from others."""
    digest = hashlib.sha256()
    for column in batch.columns().values():
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
