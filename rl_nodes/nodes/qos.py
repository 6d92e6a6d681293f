# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
QoS profiles by duty.

Almost everything is reliable: on one machine it costs nothing, and in lockstep a lost message
would stall the robot. Freshness is judged by stamps and steady timers in the nodes; DDS deadlines
and lifespans are a second opinion at most.
"""

from collections.abc import Sequence
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rl_nodes.data import rosbag2


def _profile(depth: int, latched: bool = False, reliable: bool = True) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)


# What publishers of states, commands and rewards keep. A reliable writer forgets what no longer
# fits into its own history, acknowledged or not, so this bounds how far the recorder may lag.
STREAM = _profile(2000)
# What the recorder queues of them while its thread waits for a processor: 5 s at 1 kHz, and as
# much as Fast DDS keeps for one subscription. It grows with what is in it.
RECORDED = _profile(5000)
# What the monitor lets through, also for a reward computer that is matched late: in lockstep a
# step whose command it never saw would stall the robot. The robot itself subscribes with COMMAND.
EXECUTED = _profile(2000, latched=True)
SENSOR = _profile(10)          # subscriptions to states and rewards of nodes that act on them
COMMAND = _profile(1)          # subscriptions to commands: only the newest counts
BATCH = _profile(500)          # experience: no batch may be lost while a learner updates
LATCHED = _profile(1, latched=True)   # state, policy updates: whoever joins late gets the newest
EPISODE = _profile(10, latched=True)  # goals: the newest few, also for whoever joins late
CLOCK = _profile(1)
PICTURE = _profile(4)          # pictures are large; who falls behind misses some
# Subscriptions of who only looks on: nobody waits for it, whatever becomes of it.
ONLOOKER = _profile(5, reliable=False)


def to_hear(offers: Sequence[QoSProfile], depth: int) -> QoSProfile:
    """
    Return what a subscription may ask for to hear every one of these publishers.

    :param depth: of its queue.
    """
    return _profile(
        depth,
        latched=all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers),
        reliable=all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers))


def described(profiles: Sequence[QoSProfile]) -> str:
    """Return profiles as recordings carry them."""
    return rosbag2.offered_qos(_described(profile) for profile in profiles)


def _described(profile: QoSProfile) -> dict[str, Any]:
    return rosbag2.qos_profile(
        profile.history.name.lower(), profile.depth, profile.reliability.name.lower(),
        profile.durability.name.lower(), profile.liveliness.name.lower(),
        profile.deadline.nanoseconds, profile.lifespan.nanoseconds,
        profile.liveliness_lease_duration.nanoseconds)
