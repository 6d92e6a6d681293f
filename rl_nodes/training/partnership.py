# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
What processes that learn together do besides: begin alike, keep checkpoints that fit, follow.

The first process runs the loop of ``off_policy.py`` or ``on_policy.py`` and tells the others what
it decides: whether the run ends, how many gradient steps are due, whether a checkpoint is.
:func:`follow` is that loop for the others. Each keeps its own share of a checkpoint.
"""

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any

from rl_nodes.algorithms.base import Learner
from rl_nodes.algorithms.partners import Partners
from rl_nodes.core.errors import TrainingError
from rl_nodes.training.checkpoint import CheckpointStore, differences
from rl_nodes.training.recovery import Recovery
import torch


def require_alike(identity: dict[str, Any], partners: Partners) -> None:
    """
    Compare the settings of this process with those of the first one.

    :param identity: nested dicts of numbers and text.
    :raises TrainingError: lists every difference.
    """
    theirs = json.loads(partners.first_tells(json.dumps(identity)))
    found = differences(theirs, json.loads(json.dumps(identity)), 'the first one', 'this one')
    if found:
        raise TrainingError('\n'.join((
            f'process {partners.rank} of those that learn together has other settings:', *found,
            'Start all of them by the same command')))


def newest_of_all(store: CheckpointStore, partners: Partners
                  ) -> tuple[dict[str, Any], Path] | None:
    """Return this process' share of the newest checkpoint of which each has one; or None."""
    found = store.load_newest()
    while True:
        steps = partners.gather(torch.tensor([-1 if found is None else int(found[0]['steps'])]))
        least = int(steps.min())
        if least < 0:
            return None
        if bool((steps == least).all()):
            return found
        found = store.load_newest(least)


def follow(learner: Learner, one_round: Callable[[], int], partners: Partners, steps: int,
           keep: Callable[[int], None], recovery: Recovery) -> None:
    """
    Collect and learn beside the first process, until that one ends.

    :param one_round: does so once and returns how many control steps were made here.
    :param steps: control steps of the run so far.
    :param keep: writes this process' share of a checkpoint at so many steps.
    :param recovery: of this process; goes back where the first process' does.
    :raises PartnerError: another process has gone.
    """
    while not partners.first_says(0):
        steps += learner.in_all(one_round())
        recovery.keep()
        if partners.first_says(0):
            keep(steps)
    keep(steps)
