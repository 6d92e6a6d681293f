# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Freshness, as functions of (now, last).

Two clocks, never mixed: the age of a stamp is measured on the clock of the stamps, silence since
the last arrival on the steady clock, so that a paused or jumping simulated clock cannot hide it.
"""

from rl_nodes.core.timing import NS


def stale(stamp_ns: int, now_ns: int, timeout_s: float, skew_s: float) -> str:
    """
    Return why a stamp is not fresh, or ``''`` where it is.

    :param stamp_ns: stamp of the message [ns].
    :param now_ns: the same clock now [ns].
    :param timeout_s: greatest age.
    :param skew_s: greatest distance into the future.
    """
    age_s = (now_ns - stamp_ns) / NS
    if -skew_s <= age_s <= timeout_s:
        return ''
    if age_s > timeout_s:
        return f'it is {age_s * 1e3:.1f} ms old, at most {timeout_s * 1e3:.0f} ms are allowed'
    return f'its stamp lies {-age_s * 1e3:.1f} ms in the future'


def silent(last_ns: int | None, now_ns: int, timeout_s: float) -> bool:
    """
    Return whether nothing has arrived for too long.

    :param last_ns: steady time of the last arrival [ns]; None where there was none.
    :param now_ns: steady time now [ns].
    """
    return not (last_ns is not None and now_ns - last_ns <= timeout_s * NS)


def lasting_s(timeout_s: float, period_s: float) -> float:
    """
    Return the age [s] up to which a command may be carried out for one more period.

    Who looks once a period would otherwise notice the end of the time-out up to a period late, so
    the command has to last until the next look. One of the period before always does: where the
    time-out is shorter than three periods, the rest of it is what the hold may come late by.

    :param timeout_s: greatest age of a command.
    :param period_s: between two looks.
    """
    return max(timeout_s - period_s, min(timeout_s, 2 * period_s))
