# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
From recorded episodes to a success classifier that rewards as tasks do.

This is the function behind ``rl_nodes train algorithm:=success_classifier dataset:=FOLDER``. Whole
episodes are dealt out by a seed: most are learned from, of those held out every other one gives
the threshold and the rest the figures.
"""

from collections.abc import Sequence
import contextlib
import hashlib
from pathlib import Path
import time
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from rl_nodes.algorithms.success_classifier import learn_success, SuccessLearnerConfig
from rl_nodes.core import config, resources
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, TrainingError
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.runtime import OnnxSession, session_answers
from rl_nodes.inference.success import ALGORITHM, Figures, MOST_LOG_ODDS, probability
from rl_nodes.runs.record import flat, folder_of, RunKeeper, RunRecord
from rl_nodes.safety import conformal
from rl_nodes.training.metrics import MetricSink
from rl_nodes.training.progress import Progress
from rl_nodes.training.risk import ranked_right

LEAST_EPISODES = 6    # with states of success
LEAST_POSITIVES = 30  # states of success in all
LEAST_THRESHOLD = 0.5


class SuccessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A file of ``config/train`` with ``algorithm: success_classifier``.

    :param algorithm: success_classifier.
    :param learner: its settings.
    """

    algorithm: Literal['success_classifier']
    learner: SuccessLearnerConfig = SuccessLearnerConfig()


class SuccessOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What to learn from.

    :param dataset: folder of recorded episodes (.mcap), or one of them.
    :param algorithm: name of a file in ``config/train`` or path of one.
    :param negatives: folder of further episodes of the robot, none of whose states counts as
        success, as those that a policy has found to deceive an earlier classifier; empty for none.
    :param run_dir: everything is written here; empty makes one below ``runs/`` named after
        the task and the time.
    :param signals: that the classifier sees, as in tool_position,goal_offset; empty for those that
        the task observes of one state. Pictures cannot be seen.
    :param last_steps: of each episode that went well so many last states are those of success;
        0: those that its reward says to be.
    :param margin_steps: with last_steps, so many states before them are neither one nor the other.
    :param held_out: share of the episodes that is not learned from.
    :param false_success: rate of other states that may be taken for success.
    :param seed: of every random draw.
    """

    dataset: str
    algorithm: str = ALGORITHM
    negatives: str = ''
    run_dir: str = ''
    signals: str = ''
    last_steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    margin_steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    held_out: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.3
    false_success: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.01
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0


class EpisodeStates(NamedTuple):
    """
    What was seen of the N states of one episode.

    :param name: of its file.
    :param rows: shape (N, F), float32.
    :param flagged: whether the recorded reward says success, shape (N,).
    :param well: whether the episode ended in success, as its reward or a person says.
    """

    name: str
    rows: np.ndarray
    flagged: np.ndarray
    well: bool


class Examples(NamedTuple):
    """
    States of success and others.

    :param positive: shape (N, F), float32.
    :param negative: shape (M, F), float32.
    """

    positive: np.ndarray
    negative: np.ndarray


class SuccessResult(NamedTuple):
    """
    What came of it.

    :param run_dir: where everything lies.
    :param classifier: the ONNX file.
    :param figures: found on episodes held out.
    """

    run_dir: Path
    classifier: Path
    figures: Figures


def examples(episode: EpisodeStates, last_steps: int, margin_steps: int) -> Examples:
    """Return the examples in an episode; parameters as of :class:`SuccessOptions`."""
    positive, either = episode.flagged, np.zeros(len(episode.flagged), bool)
    if last_steps:
        left = np.arange(len(episode.flagged))[::-1]  # states behind each one
        positive = (left < last_steps) & episode.well
        either = ~positive & (left < last_steps + margin_steps) & episode.well
    return Examples(episode.rows[positive], episode.rows[~positive & ~either])


def train_success(options: SuccessOptions, episodes: Sequence[EpisodeStates],
                  negatives: Sequence[EpisodeStates], contract: Contract, files: Sequence[Path],
                  progress: Progress | None = None) -> SuccessResult:
    """
    Learn, find the threshold, test and export a classifier.

    :param episodes: what was seen of recorded episodes.
    :param negatives: of further ones without any success.
    :param contract: of what was seen, see :func:`rl_nodes.inference.success.success_contract`.
    :param files: the recordings, whose hashes the classifier carries.
    :param progress: None for the live line on standard error.
    :raises ConfigError: wrong settings, or a run directory in use.
    :raises TrainingError: too few examples, or nothing was learned from them.
    """
    settings = config.load(resources.find_config('train', options.algorithm), SuccessSettings)
    folder = folder_of(options.run_dir, f'{contract.task}_success')
    file = folder / 'success.onnx'
    if file.exists():
        raise ConfigError(f'{folder} holds a classifier already; give another run_dir')
    learned, calibrating, tested = _deal(options, episodes)
    learned = _joined([learned, *(
        Examples(episode.rows[:0], episode.rows) for episode in negatives)])
    progress = Progress() if progress is None else progress
    progress.say(f'learning from {len(learned.positive):,} states of success and '
                 f'{len(learned.negative):,} others')
    record = RunRecord(
        task=contract.task, robot=contract.robot, algorithm=ALGORITHM, seed=options.seed,
        settings=flat({'dataset': options.dataset, 'contract': contract.fingerprint(),
                       'learner': msgspec.to_builtins(settings.learner)}))
    with contextlib.ExitStack() as stack:
        stack.callback(progress.close)
        keeper = stack.enter_context(RunKeeper(folder, record))
        metrics, begun = MetricSink(folder), time.monotonic()
        stack.callback(metrics.close)
        module = learn_success(
            *learned, settings.learner, options.seed, MOST_LOG_ODDS,
            lambda epoch, loss: metrics.write('train', epoch, time.monotonic() - begun,
                                              {'loss': loss}))
        exporter = PolicyExporter(module, contract, f'{contract.task[:50]}_success', ALGORITHM,
                                  'deterministic')
        data = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        seen = np.concatenate([*learned])

        def export(figures: Figures | None) -> PolicyBundle:
            return exporter.export(module, 1, settings.learner.epochs, seen,
                                   figures and msgspec.to_builtins(figures), data)

        figures = _figures(export(None), calibrating, tested, options.false_success)
        classifier = export(figures).save(file)
        found = msgspec.to_builtins(figures)
        metrics.write('evaluation', settings.learner.epochs, time.monotonic() - begun, found)
        keeper.end('steps', found)
    return SuccessResult(folder, classifier, figures)


def describe(figures: Figures) -> str:
    """Return the figures in words."""
    return (
        f'held out: {figures.positives} states of success, {figures.negatives} others\n'
        f'  precision {figures.precision:.3f}, recall {figures.recall:.3f}, AUC '
        f'{figures.auc:.4f}, log loss {figures.log_loss:.3f} nat\n'
        f'  above the threshold {figures.threshold:.4g}: {figures.found_false_success:.2%} of the '
        f'others, {figures.false_success:.2%} asked for')


def _deal(options: SuccessOptions, episodes: Sequence[EpisodeStates]
          ) -> tuple[Examples, Examples, Examples]:
    """Return the examples to learn from, those for the threshold and those for the figures."""
    found = [examples(one, options.last_steps, options.margin_steps) for one in episodes]
    whole = _joined(found)
    kinds = [[one for one in found if bool(len(one.positive)) == some] for some in (True, False)]
    other = ('last_steps:=0 takes those that the recorded reward calls success'
             if options.last_steps else 'last_steps:=10 takes the last ones of every episode that '
             'went well, also by the word of a person')
    if len(kinds[0]) < LEAST_EPISODES or len(whole.positive) < LEAST_POSITIVES:
        raise TrainingError(
            f'success_classifier: {len(whole.positive)} states of success in {len(kinds[0])} of '
            f'{len(found)} episodes; at least {LEAST_POSITIVES} in {LEAST_EPISODES} are needed: '
            f'record more; {other}')
    rng = np.random.default_rng(options.seed)
    parts: tuple[list[Examples], ...] = ([], [], [])
    for kind in kinds:  # each part has some of both
        held_out = max(2, round(options.held_out * len(kind)))
        for place, i in enumerate(rng.permutation(len(kind))):
            parts[0 if place >= held_out else 1 + place % 2].append(kind[i])
    learned, calibrating, tested = map(_joined, parts)
    least = min(len(learned.negative), len(tested.negative), len(learned.positive))
    if not least or len(calibrating.negative) < conformal.least_episodes(options.false_success):
        raise TrainingError(
            f'success_classifier: {len(learned.positive)} states of success and '
            f'{len(learned.negative)} others to learn from, {len(calibrating.negative)} and '
            f'{len(tested.negative)} others held out for threshold and figures; a rate of false '
            f'success of {options.false_success:g} needs '
            f'{conformal.least_episodes(options.false_success)} for the threshold: record more '
            'that is no success, or change held_out')
    return learned, calibrating, tested


def _figures(bundle: PolicyBundle, calibrating: Examples, tested: Examples,
             rate: float) -> Figures:
    """Return what the network is worth, as ONNX Runtime answers."""
    session = OnnxSession(bundle.onnx, bundle.manifest.contract)

    def asked(rows: np.ndarray) -> np.ndarray:
        return np.array([probability(float(z)) for z in session_answers(
            session, rows)['action'][:, 0]])

    threshold = max(LEAST_THRESHOLD, conformal.threshold(asked(calibrating.negative), rate))
    yes, no = asked(tested.positive), asked(tested.negative)
    right, wrong = int((yes > threshold).sum()), int((no > threshold).sum())
    if not right:
        raise TrainingError(
            f'success_classifier: above the threshold {threshold:.4g}, which {rate:.2%} of the '
            f'other states exceed, lies none of {len(yes)} states of success that were held out '
            f'(AUC {ranked_right(yes, no):.3f}): record more of both, let it see other signals, '
            'or allow more false success')
    return Figures(
        threshold=threshold, false_success=rate, positives=len(yes), negatives=len(no),
        found_false_success=wrong / len(no), precision=right / (right + wrong),
        recall=right / len(yes), auc=ranked_right(yes, no),
        log_loss=float(-np.log(yes).mean() - np.log1p(-no).mean()) / 2)


def _joined(parts: Sequence[Examples]) -> Examples:
    return Examples(*(np.concatenate(column) for column in zip(*parts)))
