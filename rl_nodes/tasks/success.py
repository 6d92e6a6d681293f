# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Success as a network knows it that was shown examples, see ``docs/success_classifier.md``.

A task's section ``success_classifier`` names the network. Its reward then has three terms more,
with p the probability that the state after the step is one of success:

    success_probability   p, in [0, 1]
    success_log_odds      log p - log(1 - p), in [-10, 10] [nat]
    classified_success    1 where p was above the threshold in the newest ``steps`` states, else 0

The network sees signals of that state and of its goal, and nothing else, so the simulator's
environment, the reward computer and ``rl_nodes dataset relabel`` find the same bits.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TYPE_CHECKING

from msgspec import Meta, Struct, structs
import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.types import Goal, Outcome, RobotState
from rl_nodes.tasks.object_signals import object_signals
from rl_nodes.tasks.signals import ObservationLayout, SIGNALS, View

if TYPE_CHECKING:
    from rl_nodes.tasks.base import Task


class SuccessConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    The section ``success_classifier`` of a task's YAML.

    :param file: the .onnx file, beside the YAML file or anywhere else.
    :param examples_of: task that its examples were recorded with; empty for this one.
    :param threshold: probability above which a state counts as success; None for the file's own.
    :param steps: how many states in a row have to, before the last one does.
    :param ends_episode: whether success ends the episode for good.
    :param success: whose word the ``success`` of an outcome is: of the classifier, or of the
        task's own measure, where that can be trusted and the classifier is on trial.
    """

    file: Annotated[str, Meta(pattern=r'\.onnx$')]
    examples_of: str = ''
    threshold: Annotated[float, Meta(gt=0, lt=1)] | None = None
    steps: Annotated[int, Meta(ge=1)] = 1
    ends_episode: bool = False
    success: Literal['classifier', 'task'] = 'classifier'


@dataclass(frozen=True)
class Classified:
    """
    What a classifier says of a state.

    :param probability: that it is one of success.
    :param log_odds: the same, log p - log(1 - p) [nat].
    :param success: whether it counts as one, after enough others.
    """

    term_names: ClassVar[tuple[str, ...]] = ('success_probability', 'success_log_odds',
                                             'classified_success')
    probability: float
    log_odds: float
    success: bool

    def terms(self) -> dict[str, float]:
        """Return the reward terms, named as in ``term_names``."""
        return dict(zip(self.term_names, (self.probability, self.log_odds, float(self.success))))


class SuccessView:
    """
    What a classifier sees of a robot doing a task.

    :param task: the robot and the task.
    :param names: signals in order; empty for those that the task observes of one state.
    :raises ConfigError: no such signal, or one that the robot cannot give.
    :ivar contract: that a classifier of this task relies on.
    """

    def __init__(self, task: 'Task', names: tuple[str, ...] = ()) -> None:
        from rl_nodes.inference.success import success_contract

        known = SIGNALS | object_signals(task.objects)
        observed = [name for name, _ in task.history.layout.places if name in known]
        if not (names or observed):
            raise ConfigError(f'task {task.name} observes nothing of a state alone; name signals '
                              f'that are: {", ".join(known)}')
        self._layout = ObservationLayout(names or tuple(observed), task.robot, known, 'signals')
        self._chain = task.robot.chain if self._layout.needs_tool else None
        self.contract: Contract = success_contract(
            task.contract, self._layout.spec, task.robot.geometry(
                self._layout.needs_tool, self._layout.needs_ranges, self._layout.needs_imu))

    def see(self, state: RobotState, goal: Goal) -> np.ndarray:
        """Return what it sees of a state, shape (F,), float32."""
        tool = np.zeros(3) if self._chain is None else self._chain.tip_position(state.position)
        return self._layout.assemble(View(state, goal, tool))


class SuccessJudge:
    """
    Says what each step of one robot earned, given a success classifier.

    :param task: that the robot does.
    :param config: its section ``success_classifier``.
    :raises BundleError: the classifier is damaged, or something else.
    :raises ContractError: it was made for something else.
    :ivar label: name, version and the beginning of the hash of the classifier.
    """

    def __init__(self, task: 'Task', config: SuccessConfig) -> None:
        # Imported late: whoever rewards nobody needs no ONNX Runtime.
        from rl_nodes.inference.runtime import PolicyRuntime
        from rl_nodes.inference.success import load_success, probability, signals_of

        bundle, figures = load_success(Path(config.file))
        made_for = bundle.manifest.contract
        self._view = SuccessView(task, signals_of(made_for))
        structs.replace(self._view.contract, task=config.examples_of or task.name).require(
            made_for, f'robot {task.robot.name} doing {task.name} by examples of '
            f'{config.examples_of or task.name}', f'success classifier {config.file}')
        self.label = f'{bundle.label} {bundle.manifest.sha256[:16]}'
        self._task, self._steps = task, config.steps
        self._answer, self._probability = PolicyRuntime(bundle).act, probability
        self._threshold = config.threshold or figures.threshold
        self._newest = ('', 0)  # episode and stamp of the state classified last
        self._run = 0           # states in a row up to it that were taken for success

    def __call__(self, before: RobotState, command: np.ndarray, after: RobotState,
                 goal: Goal) -> Outcome:
        """Return what one step earned; parameters as of :meth:`Task.evaluate`."""
        log_odds = float(self._answer(self._view.see(after, goal))[0])
        likely = self._probability(log_odds)
        if (before.episode, before.stamp_ns) != self._newest:
            self._run = 0
        self._run = self._run + 1 if likely > self._threshold else 0
        self._newest = (after.episode, after.stamp_ns)
        return self._task.evaluate(before, command, after, goal, Classified(
            likely, log_odds, self._run >= self._steps))
