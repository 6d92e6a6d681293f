# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Settings that change while training goes on."""

from typing import Annotated

import msgspec

_NotNegative = Annotated[float, msgspec.Meta(ge=0.0)]


class Linear(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A value that goes along a straight line and then stays.

    :param start: value at step 0.
    :param end: value from ``steps`` on.
    :param steps: control steps that the way takes.
    """

    start: _NotNegative
    end: _NotNegative
    steps: Annotated[int, msgspec.Meta(ge=1)]


Scheduled = _NotNegative | Linear


def value_at(value: float | Linear, steps: int) -> float:
    """
    Return what a setting is by now.

    :param value: a number, which stays, or a line.
    :param steps: control steps so far.
    """
    if not isinstance(value, Linear):
        return value
    done = min(1.0, steps / value.steps)
    return value.start + (value.end - value.start) * done
