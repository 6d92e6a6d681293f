# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Who a command comes from, by its source, as it travels in ``frame_id``.

    <policy name>@<version>          a policy
    controller:<name>                a controller that stands in for one
    teleop:<operator>                a person, or a script in a person's place
    teleop:<operator>/perturbed      the same with noise added; without it, it is on
                                     teleop/intended_command
    teleop:<operator>/standby        nobody: the person holds no deadman, the robot may stand
    replay:<episode>                 a recorded episode
    monitor                          the safety monitor itself
    monitor/<fallback>               the same, while the robot does not rest yet

``:<operator>`` may be missing. Where the safety monitor has changed or made an executed command,
its decision follows, the gravest check that had something to object to:

    <source> | <level>/<check>       as in ``reach@7 | clamp/velocity``, ``monitor | stop/finite``
"""

from collections.abc import Iterable
from enum import IntEnum
import re

import numpy as np

STANDBY, PERTURBED = '/standby', '/perturbed'
MONITOR, REPLAY = 'monitor', 'replay:'
INTERVENTION = np.dtype('S48')  # of ``<level>/<check>`` in columns; what is longer is cut
_TELEOP = 'teleop'
_LABELLED = re.compile(r'(.*) \| ((?:clamp|hold|stop)/.+)')


class Origin(IntEnum):
    """What a transition is worth to who learns from people."""

    NOBODY = 0         # the robot was made to stand
    AUTONOMOUS = 1     # a policy, a controller or a recording
    DEMONSTRATION = 2  # a person, where no policy acts
    INTERVENTION = 3   # a person who has taken over from a policy


ORIGINS = tuple(origin.name.lower() for origin in Origin)  # as people write them


def labelled(source: str, intervention: str) -> str:
    """
    Return a source with what the safety monitor did as it travels in ``frame_id``.

    :param intervention: ``<level>/<check>``; empty where it let the command pass.
    """
    return f'{source} | {intervention}' if intervention else source


def split_label(frame_id: str) -> tuple[str, str]:
    """Return (source, intervention) of a ``frame_id``, the counterpart of :func:`labelled`."""
    found = _LABELLED.fullmatch(frame_id) if ' | ' in frame_id else None
    return (found[1], found[2]) if found else (frame_id, '')


def operator_source(operator: str, engaged: bool) -> str:
    """Return the source of a teleoperated command; ``engaged`` while the deadman is held."""
    return f'{_TELEOP}:{operator}{"" if engaged else STANDBY}'


def is_engaged(source: str) -> bool:
    """Return whether somebody at a teleoperation device wants this command."""
    return _teleoperated(source) and not source.endswith(STANDBY)


def origin_of(source: str, wanted: Iterable[str]) -> Origin:
    """
    Return the origin of an executed command.

    :param source: of the executed command.
    :param wanted: sources of all commands that were wanted for the same state.
    """
    if is_engaged(source):
        others = any(not _teleoperated(other) for other in wanted)
        return Origin.INTERVENTION if others else Origin.DEMONSTRATION
    if source.endswith(STANDBY) or source.partition('/')[0] == MONITOR:
        return Origin.NOBODY
    return Origin.AUTONOMOUS


def _teleoperated(source: str) -> bool:
    return source.partition('/')[0].partition(':')[0] == _TELEOP
