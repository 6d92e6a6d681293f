# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The one exception tree.

Every error a user can cause is an :class:`RlNodesError`; its text is one paragraph that says what
came, what was expected and what to do. Entry points print that text without a traceback and exit
with status 2 where nothing was started, else 1. Anything else that escapes is a defect and keeps
its traceback.
"""


class RlNodesError(Exception):
    """Base of every error that has a cause outside this package."""


class ConfigError(RlNodesError):
    """A configuration file, parameter or command-line argument is wrong."""


class SpecError(RlNodesError):
    """
    An array does not have the names, shape, type or finite values that were promised.

    :cvar reason: what a message is counted as that was dropped for it.
    """

    reason = 'malformed'


class NotFiniteError(SpecError):
    """Values are NaN or infinite."""

    reason = 'not_finite'


class OrderError(SpecError):
    """Something came after what it should have preceded."""

    reason = 'out_of_order'


class RewardMissingError(SpecError):
    """What is observed depends on a reward that has not come."""

    reason = 'reward_missing'


class PictureError(SpecError):
    """
    A picture that a policy observes is missing, too old, or none that it can take.

    :ivar reason: what a state is counted as that was not answered for it.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ContractError(RlNodesError):
    """Two parties (policy, robot, task, data) do not speak about the same robot."""


class BundleError(RlNodesError):
    """A policy file is missing, damaged or not acceptable."""


class BackendError(RlNodesError):
    """A robot or simulator failed or reported something impossible."""


class ReadMissedError(BackendError):
    """
    A robot gave no valid measurement in time; the next reading may succeed.

    :ivar joints: names of the joints that are missing.
    """

    def __init__(self, message: str, joints: tuple[str, ...]) -> None:
        super().__init__(message)
        self.joints = joints


class RecordingError(RlNodesError):
    """A recording cannot be written or read."""


class CheckpointError(RlNodesError):
    """A training checkpoint is missing, damaged or from other settings."""


class TrainingError(RlNodesError):
    """Learning cannot start or go on: spaces that do not fit, non-finite loss or reward."""


class ExperienceError(TrainingError):
    """What has come cannot be learned from; the learner is not to blame."""


class PartnerError(TrainingError):
    """One of several processes that learn together has gone."""


class GraphError(RlNodesError):
    """The node graph cannot be started: wrong arguments, a second copy, a missing peer."""
