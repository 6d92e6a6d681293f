# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
How the difficulty of training episodes changes while a policy learns; see ``tasks/base.py``.

Evaluations are never touched: they are always at difficulty 1.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

_Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class CurriculumConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    A schedule of difficulty.

    :param schedule: constant: difficulty 1 from the beginning; linear: rises with control steps
        and reaches 1 after ``steps``; success: follows the success of training episodes.
    :param start: difficulty at the beginning.
    :param steps: of the linear schedule.
    :param raise_at: success schedule: difficulty rises by ``change`` where at least this share of
        the newest ``episodes`` training episodes has succeeded.
    :param lower_at: it falls by ``change`` where less than this share has; never below ``start``.
    :param change: of the difficulty, at one time.
    :param episodes: finished episodes that are judged together; all of them since the last change.
    """

    schedule: Literal['constant', 'linear', 'success'] = 'constant'
    start: _Share = 0.0
    steps: Annotated[int, Meta(ge=1)] = 20_000
    raise_at: _Share = 0.8
    lower_at: _Share = 0.4
    change: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.1
    episodes: Annotated[int, Meta(ge=1)] = 20

    def __post_init__(self) -> None:
        if self.schedule == 'success' and not self.lower_at < self.raise_at:
            raise ValueError(f'lower_at = {self.lower_at} must be below raise_at = '
                             f'{self.raise_at}')

    @property
    def active(self) -> bool:
        """Return whether difficulty is anything but 1."""
        return self.schedule != 'constant'


class Curriculum:
    """
    A schedule in force.

    :param config: see there.
    :ivar difficulty: of the next training episodes.
    """

    def __init__(self, config: CurriculumConfig) -> None:
        self._config = config
        self.difficulty = config.start if config.active else 1.0
        self._judged = (0, 0)  # finished and successful episodes at the last change or verdict

    def update(self, steps: int, finished: int, succeeded: int) -> bool:
        """
        Look at how far training is.

        :param steps: control steps so far.
        :param finished: training episodes so far.
        :param succeeded: how many of them have.
        :return: whether the difficulty has changed.
        """
        config, before = self._config, self.difficulty
        if config.schedule == 'linear':
            share = min(1.0, steps / config.steps)  # in hundredths: each change costs a little
            self.difficulty = round(config.start + (1.0 - config.start) * share, 2)
        elif config.schedule == 'success' and finished - self._judged[0] >= config.episodes:
            rate = (succeeded - self._judged[1]) / (finished - self._judged[0])
            self._judged = (finished, succeeded)
            if rate >= config.raise_at:
                self.difficulty = min(1.0, round(before + config.change, 6))
            elif rate < config.lower_at:
                self.difficulty = max(config.start, round(before - config.change, 6))
        return self.difficulty != before

    def state_dict(self) -> dict[str, Any]:
        """Return where the schedule stands."""
        return {'difficulty': self.difficulty, 'judged': list(self._judged)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.difficulty = float(state['difficulty'])
        self._judged = (int(state['judged'][0]), int(state['judged'][1]))


def why_in_vain(config: CurriculumConfig, names: tuple[str, ...], task: str) -> str:
    """
    Return why a schedule would change nothing, or ``''``.

    :param names: what varies from episode to episode, see ``Task.variation_names``.
    :param task: what is trained, for people.
    """
    if not config.active or names:
        return ''
    return (f'loop.curriculum.schedule = {config.schedule}, but {task} is the same at every '
            'difficulty: its task has neither a section randomisation nor curriculum. Use '
            'schedule: constant, or a task like reach_randomised')
