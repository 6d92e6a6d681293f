# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the training loop does besides learning: publish, evaluate, checkpoint, log, roll back.

The order of events is told in ``off_policy.py`` and ``on_policy.py``; here is how each of them is
done. Only what concerns stored experience asks for an off-policy learner.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
import logging
import math
from pathlib import Path
import time
from typing import Any

import msgspec
import numpy as np
from rl_nodes.algorithms.base import Learner
from rl_nodes.core.errors import BackendError, BundleError, CheckpointError, TrainingError
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.rollout import Rollout
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.training.checkpoint import CheckpointStore
from rl_nodes.training.curriculum import Curriculum
from rl_nodes.training.episodes import EpisodeStatistics
from rl_nodes.training.evaluation import Evaluation, EVALUATION_SEED, FRESH_SEED
from rl_nodes.training.limits import Limits, Target
from rl_nodes.training.metrics import MetricSink
from rl_nodes.training.progress import Progress, ProgressState
from rl_nodes.training.recovery import Recovery
from rl_nodes.training.settings import ScheduleConfig
from rl_nodes.training.sources import Source
import torch

_log = logging.getLogger(__name__)
MOST_REFUSED = 1000  # transitions in a row that were not finite, before a run ends
VERSIONS_SKIPPED = 1000  # by a resumed run: far more than there are between two checkpoints
_RECORDED = 256  # newest observations on which an export is proven

Evaluator = Callable[[PolicyBundle, Sequence[int]], Evaluation]


@dataclass
class Outputs:
    """
    Where a run reports to.

    :param policy_folder: the best policy is saved here.
    :param checkpoints: None writes none.
    :param metrics: None writes none.
    :param progress: the live line.
    :param alarm: called with the text of everything a person should know at once.
    :param identity: settings and contract, saved with each checkpoint and compared on resume.
    """

    policy_folder: Path
    checkpoints: CheckpointStore | None = None
    metrics: MetricSink | None = None
    progress: Progress | None = None
    alarm: Callable[[str], None] = _log.error
    identity: dict[str, Any] = field(default_factory=dict)


class Session:
    """One run's counters, clocks and outputs around a learner and a source."""

    def __init__(self, learner: Learner, source: Source, exporter: PolicyExporter,
                 config: ScheduleConfig, limits: Limits, outputs: Outputs,
                 evaluator: Evaluator | None) -> None:
        self.learner, self.source, self.config, self.limits = learner, source, config, limits
        self.outputs = outputs
        self._exporter, self._evaluator = exporter, evaluator
        self.steps = 0
        self.debt = 0.0          # gradient steps allowed by updates_per_step and not yet done
        self.rollbacks = 0
        self.version = 0
        self.best: tuple[Evaluation, PolicyBundle] | None = None
        self.last_evaluation: Evaluation | None = None
        self.target_reached = False
        self.unsaved = ''        # why the policy that is to be left could not be saved
        self.episodes = EpisodeStatistics()
        self.curriculum = Curriculum(config.curriculum)
        if config.curriculum.active:
            source.set_difficulty(self.curriculum.difficulty)
        self._pending = 0        # control steps of a rollout that is not complete yet
        self._refused, self._refused_in_a_row, self._told_refused = 0, 0, -math.inf
        self._elapsed_before = 0.0
        self._fresh_seed = FRESH_SEED
        self._recovery = Recovery(learner, config.snapshot_every_updates)
        now = time.monotonic()
        self._start = self._heard = self._logged = self._published = now
        self._evaluated = self._checkpointed = self._reported_silence = now
        self._published_updates = learner.updates
        self._evaluated_steps = self._checkpointed_steps = 0

    # Collecting ------------------------------------------------------------------------------

    def take(self, batch: TransitionBatch | None) -> None:
        """Store what came, or notice that nothing has come for long."""
        now = time.monotonic()
        if batch is not None and len(batch):
            self._heard = now
            self.episodes.add(batch)
            stored = self.learner.observe(batch)
            self._count(len(batch))
            if self.learner.ready():
                self.debt += self.config.updates_per_step * self.learner.in_all(stored)
            self._note_refused(len(batch) - stored, stored)
        else:
            self._note_silence(now, 'is the robot running and the recorder active?')

    def _note_silence(self, now: float, why: str) -> None:
        """Say from time to time that nothing comes that could be learned from."""
        if self.silence_s(now) and now - self._reported_silence > self.config.source_timeout_s:
            self._reported_silence = now
            self.outputs.alarm(f'no experience for {self.silence_s(now):.0f} s: {why} Training '
                               'waits')

    def _note_refused(self, refused: int, stored: int) -> None:
        """
        Say from time to time how many transitions were not finite.

        :raises BackendError: so many in a row were that there is nothing to learn from.
        """
        self._refused += refused
        self._refused_in_a_row = 0 if stored else self._refused_in_a_row + refused
        if self._refused_in_a_row >= MOST_REFUSED:
            raise BackendError(f'the last {self._refused_in_a_row:,} transitions were not finite; '
                               'look at the rewards and observations of the environment')
        now = time.monotonic()
        if self._refused and now - self._told_refused > self.config.log_every_s:
            self.outputs.alarm(f'{self._refused} transitions refused: not finite')
            self._refused, self._told_refused = 0, now

    def take_rollout(self, rollout: Rollout) -> None:
        """Count what an on-policy learner is about to learn from; episodes that are finite."""
        self._heard, self._pending = time.monotonic(), 0
        for episode, cost in zip_longest(rollout.episodes, rollout.episode_costs):
            if math.isfinite(episode[0]) and (cost is None or math.isfinite(cost)):
                self.episodes.add_finished(*episode, cost)
        self._count(len(rollout))

    def await_rollout(self) -> None:
        """Notice how the next rollout grows, or that it does not."""
        now, pending = time.monotonic(), self.source.pending
        if pending != self._pending:
            self._heard, self._pending = now, pending
        else:
            self._note_silence(now, self.source.complaint)
        self.report()

    def _count(self, steps: int) -> None:
        self.steps += self.learner.in_all(steps)
        if self.curriculum.update(self.steps, self.episodes.finished, self.episodes.succeeded):
            self.source.set_difficulty(self.curriculum.difficulty)
        if self.learner.constraint is not None:
            self.learner.constraint.update(self.episodes.cost, self.episodes.finished,
                                           self.episodes.steps)

    def silence_s(self, now: float) -> float:
        """Return how long nothing has come, once that is longer than it may be [s]; else 0."""
        silence = now - self._heard
        return silence if silence > self.config.source_timeout_s else 0.0

    # Learning --------------------------------------------------------------------------------

    def staleness(self) -> int:
        """Return the gradient steps that the learner is ahead of the acting policy."""
        return max(0, self.learner.updates - self.source.policy_updates_in_use())

    def updates_due(self) -> int:
        """Return the gradient steps to do in this round; partners do as many."""
        due = 0
        if self.learner.ready():
            due = min(int(self.debt), self.config.updates_per_round)
            if self.config.max_staleness_updates is not None:
                due = min(due, self.config.max_staleness_updates - self.staleness())
        return self.agree(max(0, due))

    def agree(self, decision: int) -> int:
        """Return a decision after telling the partners, who do the same in the same order."""
        partners = self.learner.partners
        return decision if partners is None else partners.first_says(decision)

    def keep_snapshot(self) -> None:
        """Remember the learner's state from time to time, if it is healthy."""
        self._recovery.keep()

    def roll_back(self, error: TrainingError) -> None:
        """
        Return to the last healthy weights, unless what came was to blame.

        :raises TrainingError: this has happened too often.
        :raises BackendError: too much in a row that came was to blame.
        :raises PartnerError: the error is that one.
        """
        if not self._recovery.go_back(error):
            self.outputs.alarm(f'nothing is learned from this rollout: {error}')
            return
        self.rollbacks += 1
        self.debt = 0.0
        self.outputs.alarm(f'DIVERGED ({self.rollbacks} of at most {self.config.max_rollbacks}): '
                           f'{error}. Went back to the last good weights')
        if self.rollbacks > self.config.max_rollbacks:
            raise TrainingError(f'gave up after {self.rollbacks} divergences; the last: {error}')

    # Publishing and evaluating ---------------------------------------------------------------

    def publish_due(self, first: bool = False) -> bool:
        """Return True where the acting side should get a newer policy."""
        if not self.source.wants_policies:
            return False
        ahead = self.learner.updates - self._published_updates
        late = time.monotonic() - self._published >= self.config.publish_every_s
        return first or ahead >= self.config.publish_every_updates or (ahead > 0 and late)

    def publish(self) -> bool:
        """Export the present policy and hand it to the source; return whether it was good."""
        bundle = self.export()
        if bundle is None:
            return False
        self.source.publish(bundle, bundle.manifest.version, self.learner.updates)
        self._published = time.monotonic()
        self._published_updates = self.learner.updates
        return True

    def hand_out(self) -> None:
        """
        Publish the present policy, where acting happens elsewhere, or the last one that was good.

        :raises TrainingError: this has happened too often.
        """
        while self.source.wants_policies and not self.publish():
            self.roll_back(TrainingError('the policy cannot be exported'))

    def export(self) -> PolicyBundle | None:
        """Return the present policy, proven against ONNX Runtime; None (and alarm) if bad."""
        self.version += 1
        try:
            return self._exporter.export(
                self.learner.policy_module(), self.version, self.learner.updates,
                recorded_observations=self.learner.recent_observations(_RECORDED))
        except BundleError as error:
            self.outputs.alarm(f'policy not exported: {error}')
            return None

    def evaluation_due(self) -> bool:
        """Return True where a scheduled evaluation is due; only a learning policy is evaluated."""
        if self._evaluator is None or self.steps == self._evaluated_steps \
                or not self.learner.updates:
            return False
        if self.steps - self._evaluated_steps >= self.config.evaluate_every_steps:
            return True
        return self.config.checkpoint_every_steps is None and \
            time.monotonic() - self._evaluated >= self.config.evaluate_every_s

    def evaluate(self) -> None:
        """Evaluate the present policy, keep it if it is the best, see if the target is reached."""
        bundle = self.export()
        self._evaluated, self._evaluated_steps = time.monotonic(), self.steps
        if bundle is None or self._evaluator is None:
            return
        episodes = self.config.evaluation_episodes
        evaluation = self._evaluator(bundle, range(EVALUATION_SEED, EVALUATION_SEED + episodes))
        self.last_evaluation = evaluation
        self.say(f'step {self.steps:,}: {evaluation.text()}')
        self._write('evaluation', evaluation.summary())
        self._write_histograms(evaluation)
        if self.best is None or self._rank(evaluation) >= self._rank(self.best[0]):
            self._keep_best(evaluation, bundle)
        target = self.limits.target
        if target is not None and self._reached(target, evaluation):
            fresh = self._evaluate_fresh(bundle)
            self.say(f'fresh episodes for the target {target}: {fresh.text()}')
            self.target_reached = self._reached(target, fresh)
            if self.target_reached:
                self._keep_best(fresh, bundle)
        self._evaluated = self._heard = time.monotonic()  # nobody listened meanwhile

    def _excess(self, evaluation: Evaluation) -> float:
        """Return by how much the limit on costs was broken; 0 where kept, or where is none."""
        constraint = self.learner.constraint
        return 0.0 if constraint is None else max(0.0, constraint.config.excess(
            sum(evaluation.costs), len(evaluation.costs), sum(evaluation.lengths)))

    def _rank(self, evaluation: Evaluation) -> tuple[float, ...]:
        """Return what orders policies: the limit on costs, then success, then return."""
        return (-self._excess(evaluation), *evaluation.rank)

    def _reached(self, target: Target, evaluation: Evaluation) -> bool:
        return target.reached(evaluation) and not self._excess(evaluation)

    def _evaluate_fresh(self, bundle: PolicyBundle) -> Evaluation:
        seeds = range(self._fresh_seed, self._fresh_seed + self.config.confirmation_episodes)
        self._fresh_seed += len(seeds)
        if self._evaluator is None:
            raise TrainingError('asked to evaluate without an environment to evaluate in')
        evaluation = self._evaluator(bundle, seeds)
        self._heard = time.monotonic()  # nobody listened meanwhile
        return evaluation

    def _keep_best(self, evaluation: Evaluation, bundle: PolicyBundle) -> None:
        manifest = msgspec.structs.replace(
            bundle.manifest, evaluation=evaluation.summary(), digest='').sealed()
        bundle = PolicyBundle(bundle.onnx, manifest)
        self.best = (evaluation, bundle)
        self._save(bundle)

    def _save(self, bundle: PolicyBundle) -> None:
        """Leave a policy; a disk that refuses is an alarm, and an error at the end."""
        try:
            bundle.save(self.policy_path)
        except BundleError as error:
            self.unsaved = str(error)
            self.outputs.alarm(f'the best policy so far could not be saved: {error}')
        else:
            self.unsaved = ''

    @property
    def policy_path(self) -> Path:
        """Return where the best policy lies."""
        return self.outputs.policy_folder / 'policy.onnx'

    def judge(self, at_once: bool = False) -> Evaluation | None:
        """
        Evaluate what has come last, then the best policy on fresh episodes.

        :param at_once: somebody waits for the end: leave the best policy so far as it is, or the
            newest one where none was evaluated.
        :return: the evaluation of the policy that is left; None where there is none.
        """
        if self._evaluator is None or (at_once and self.best is None):
            bundle = self.export()
            if bundle is not None:
                self._save(bundle)
            return None
        if self.best is not None and (at_once or self.target_reached):
            if self.unsaved:
                self._save(self.best[1])
            return self._told(self.best[0])
        if self.steps != self._evaluated_steps and self.learner.updates:
            self.evaluate()
        if self.best is None:
            return None
        fresh = self._evaluate_fresh(self.best[1])
        self._keep_best(fresh, self.best[1])
        self.say(f'best policy on fresh episodes: {fresh.text()}')
        return self._told(fresh)

    def _told(self, evaluation: Evaluation) -> Evaluation:
        """Return the evaluation of the policy that is left; say so where it breaks the limit."""
        if excess := self._excess(evaluation):
            self.outputs.alarm(f'the policy that is left costs {excess:.3g} more than the limit; '
                               'none that was evaluated costs less')
        return evaluation

    # Keeping ---------------------------------------------------------------------------------

    def checkpoint_due(self) -> bool:
        """Return True where a checkpoint is due; partners write theirs then."""
        every = self.config.checkpoint_every_steps
        due = time.monotonic() - self._checkpointed >= self.config.checkpoint_every_s \
            if every is None else self.steps - self._checkpointed_steps >= every
        return bool(self.agree(due))

    def checkpoint(self) -> None:
        """Write a checkpoint; a disk that refuses is an alarm, not the end."""
        self._checkpointed, self._checkpointed_steps = time.monotonic(), self.steps
        if self.outputs.checkpoints is None:
            return
        try:
            self.outputs.checkpoints.save(self.state_dict(), self.steps)
        except CheckpointError as error:
            self.outputs.alarm(str(error))
        if self.config.checkpoint_every_steps is not None:  # as if it were resumed from there
            self.episodes.forget_unfinished()
            self.source.restart(self.steps)

    def keep(self) -> None:
        """Write a last checkpoint where they are not to come at certain steps only."""
        if self.config.checkpoint_every_steps is None:
            self.checkpoint()
            self.say(f'with resume:=true it goes on from step {self.steps:,}')

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        best = None if self.best is None else msgspec.json.encode(self.best[0]).decode()
        return {'identity': self.outputs.identity, 'learner': self.learner.state_dict(),
                'buffer': self.learner.experience_state(), 'episodes': self.episodes.state_dict(),
                'curriculum': self.curriculum.state_dict(),
                'steps': self.steps, 'debt': self.debt, 'version': self.version,
                'rollbacks': self.rollbacks, 'elapsed_s': self.elapsed_s(),
                'fresh_seed': self._fresh_seed, 'evaluated_steps': self._evaluated_steps,
                'best': best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.learner.load_state_dict(state['learner'])
        self.learner.load_experience_state(state['buffer'])
        self.episodes.load_state_dict(state['episodes'])
        self.curriculum.load_state_dict(state['curriculum'])
        if self.config.curriculum.active:
            self.source.set_difficulty(self.curriculum.difficulty)
            self.source.restart(int(state['steps']))  # or they begin as difficult as a new run
        for name in ('steps', 'debt', 'version', 'rollbacks'):
            setattr(self, name, state[name])
        if self.source.wants_policies:  # what was published after the checkpoint may still act
            self.version += VERSIONS_SKIPPED
        self._elapsed_before = state['elapsed_s']
        self._fresh_seed, self._evaluated_steps = state['fresh_seed'], state['evaluated_steps']
        self._checkpointed_steps = self.steps
        self._recovery.renew()
        self._published_updates = self.learner.updates
        if state['best'] is not None:
            try:
                bundle = PolicyBundle.load(self.policy_path)
            except BundleError as error:
                self.outputs.alarm(f'the best policy so far is lost: {error}')
            else:
                self.best = (msgspec.json.decode(state['best'], type=Evaluation), bundle)

    # Reporting -------------------------------------------------------------------------------

    def elapsed_s(self) -> float:
        """Return the wall time of training, resumed parts included [s]."""
        return self._elapsed_before + time.monotonic() - self._start

    def report(self, force: bool = False) -> None:
        """Show progress and log a row of metrics, each when it is time."""
        now = time.monotonic()
        if self.outputs.progress is not None:
            self.outputs.progress.show(self.progress_state, force)
        if force or now - self._logged >= self.config.log_every_s:
            self._logged = now
            self._write('train', self.episodes.metrics() | self.learner.metrics() | {
                'updates': float(self.learner.updates), 'staleness': float(self.staleness())
            } | self.learner.experience_metrics() | self.source.metrics() | (
                    {'difficulty': self.curriculum.difficulty}
                    if self.config.curriculum.active else {}) | (
                    {} if self.learner.constraint is None else
                    {'multiplier': self.learner.constraint.multiplier}))

    def progress_state(self) -> ProgressState:
        """Return what the live line shows."""
        silence = self.silence_s(time.monotonic())
        evaluation = None
        if self.last_evaluation is not None:
            rate = self.last_evaluation.success_rate
            evaluation = (f'{self.last_evaluation.mean_return:.1f}' if rate is None
                          else f'success {rate:.0%}')
        return ProgressState(
            self.steps + self._pending, self.limits.steps, self.elapsed_s(), self.limits.time_s,
            self.episodes.finished, self.episodes.success_rate, self.episodes.mean_return,
            evaluation, self.learner.updates, self.staleness(),
            self.curriculum.difficulty if self.config.curriculum.active else None,
            f'no experience for {silence:.0f} s' if silence else '',
            int(self.source.metrics().get('stale_refused', 0)))

    def say(self, text: str) -> None:
        """Tell a person."""
        if self.outputs.progress is not None:
            self.outputs.progress.say(text)
        else:
            _log.info(text)

    def _write_histograms(self, evaluation: Evaluation) -> None:
        """Show the spread of episodes, of deterministic actions and of the policy's weights."""
        if self.outputs.metrics is None:
            return
        policy = self.learner.policy_module()
        values = {'episodes/return': np.array(evaluation.returns),
                  'episodes/length': np.array(evaluation.lengths),
                  **{f'policy/{name}': weight.detach().numpy()
                     for name, weight in policy.named_parameters()}}
        if not self.learner.memory:  # such actions hang on more than the observation
            seen = torch.as_tensor(self.learner.recent_observations(_RECORDED))
            with torch.no_grad():
                answer = policy(seen)
            action = (answer if isinstance(answer, torch.Tensor) else answer[0]).numpy()
            values |= {f'action/{index}': column for index, column in enumerate(action.T)}
        self.outputs.metrics.write_histograms(self.steps, values)

    def _write(self, kind: str, values: dict[str, float]) -> None:
        if self.outputs.metrics is not None:
            self.outputs.metrics.write(kind, self.steps, self.elapsed_s(), values)
