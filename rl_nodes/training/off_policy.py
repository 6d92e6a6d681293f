# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The training loop of off-policy learners, in one process and on the ROS graph alike."""

from dataclasses import dataclass
import logging
import threading

from rl_nodes.algorithms.base import OffPolicyLearner
from rl_nodes.algorithms.partners import Partners
from rl_nodes.core.errors import TrainingError
from rl_nodes.training.evaluation import Evaluation
from rl_nodes.training.recovery import Recovery
from rl_nodes.training.session import Session
from rl_nodes.training.sources import Source
import torch

_log = logging.getLogger(__name__)
IDLE_S = 0.002  # pause where there is neither experience nor anything to learn from it [s]


@dataclass(frozen=True)
class RunResult:
    """
    How a run ended.

    :param reason: ``target``, ``steps``, ``time`` or ``stopped``.
    :param steps: control steps.
    :param updates: gradient steps.
    :param elapsed_s: wall time, resumed parts included, without the closing evaluation [s].
    :param evaluation: the best policy on fresh episodes; None without an evaluator.
    """

    reason: str
    steps: int
    updates: int
    elapsed_s: float
    evaluation: Evaluation | None


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
    if session.publish_due(first=True):
        session.publish()

    while not (reason := reason_to_stop(session, stop)):
        with torch.inference_mode(not learner.autograd):
            # Collect: whatever has come, which may be nothing.
            batch = source.collect()
            session.take(batch)

            # Learn: as often as the new transitions and the age of the acting policy allow.
            due = session.updates_due()
            try:
                for _ in range(due):
                    if cut_short.is_set():
                        break
                    learner.update()
                    session.debt -= 1.0
            except TrainingError as error:
                session.roll_back(error)
        session.keep_snapshot()

        # Publish: the acting side gets a policy that has been proven.
        if session.publish_due():
            session.publish()

        # Judge, keep, tell.
        if session.evaluation_due():
            session.evaluate()
        if session.checkpoint_due():
            session.checkpoint()
        session.report()
        if not due and (batch is None or not len(batch)):
            stop.wait(IDLE_S)

    elapsed_s = session.elapsed_s()
    session.checkpoint()
    evaluation = session.judge(at_once=reason == 'stopped')
    session.report(force=True)
    return RunResult(reason, session.steps, learner.updates, elapsed_s, evaluation)


def follow(learner: OffPolicyLearner, source: Source, partners: Partners,
           recovery: Recovery) -> int:
    """Do what a round of :func:`run` does, beside the first process; return the control steps."""
    with torch.inference_mode(not learner.autograd):
        batch = source.collect()
        if batch is not None and (refused := len(batch) - learner.observe(batch)):
            _log.error('process %d: %d transitions refused: not finite', partners.rank, refused)
        due = partners.first_says(0)
        with recovery.beside_first():
            for _ in range(due):
                learner.update()
    return 0 if batch is None else len(batch)


def reason_to_stop(session: Session, stop: threading.Event) -> str:
    """Return why the run ends, empty while it goes on; partners are told whether it does."""
    reason = _reason_to_stop(session, stop)
    session.agree(bool(reason))
    return reason


def _reason_to_stop(session: Session, stop: threading.Event) -> str:
    limits = session.limits
    if stop.is_set():
        return 'stopped'
    if session.target_reached:
        return 'target'
    if limits.steps is not None and session.steps >= limits.steps:
        return 'steps'
    if limits.time_s is not None and session.elapsed_s() >= limits.time_s:
        return 'time'
    return ''
