# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The last healthy state of a learner, to go back to when it diverges."""

from collections.abc import Iterator
import contextlib
import logging

from rl_nodes.algorithms.base import Learner
from rl_nodes.core.errors import BackendError, ExperienceError, PartnerError, TrainingError

MOST_LEFT_OUT = 3  # rollouts in a row that were not finite, before a run ends
_log = logging.getLogger(__name__)


class Recovery:
    """
    Remembers how a learner was while it was healthy.

    :param every_updates: gradient steps between two states that are remembered.
    """

    def __init__(self, learner: Learner, every_updates: int) -> None:
        self._learner, self._every_updates = learner, every_updates
        self._left_out, self._left_out_at = 0, 0  # rollouts in a row, at so many gradient steps
        self.renew()

    def renew(self) -> None:
        """Remember the present state."""
        self._state, self._updates = self._learner.state_dict(), self._learner.updates

    def keep(self) -> None:
        """Remember the present state from time to time, if it is healthy."""
        if self._learner.updates - self._updates >= self._every_updates \
                and self._learner.is_finite():
            self.renew()

    def go_back(self, error: TrainingError) -> bool:
        """
        Return to the remembered weights, optimisers and statistics if the learner is to blame.

        :return: whether it is; otherwise what came is, and is left out.
        :raises BackendError: so much in a row was left out that there is nothing to learn from.
        :raises PartnerError: the error is that one.
        """
        if isinstance(error, PartnerError):
            raise error
        if not isinstance(error, ExperienceError):
            self._learner.roll_back(self._state)
            return True
        again = self._learner.updates == self._left_out_at
        self._left_out, self._left_out_at = self._left_out * again + 1, self._learner.updates
        if self._left_out >= MOST_LEFT_OUT:
            raise BackendError(f'{MOST_LEFT_OUT} rollouts in a row were not finite; the last: '
                               f'{error}') from error
        return False

    @contextlib.contextmanager
    def beside_first(self) -> Iterator[None]:
        """
        Go back where the first of several processes does, who says so and counts how often.

        All hold the same weights and hear of everybody's experience: all see the same errors.
        """
        try:
            yield
        except TrainingError as error:
            if not self.go_back(error):
                _log.error('nothing is learned from this rollout: %s', error)
