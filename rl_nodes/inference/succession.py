# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Which policy is in force, which come before it, and which must not come again."""

from collections import deque

from rl_nodes.core.errors import BundleError
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime

KEPT = 4  # policies to go back to


class Succession:
    """
    The policies of a server, one after another.

    One that is replaced before it has proven itself is nothing to go back to.

    :ivar current: the policy in force; None before the first.
    :ivar fell_back: whether it came into force because another was withdrawn.
    """

    def __init__(self) -> None:
        self.current: PolicyRuntime | None = None
        self.fell_back = False
        self._proven = False
        self._previous: deque[PolicyRuntime] = deque(maxlen=KEPT)
        self._withdrawn: dict[str, tuple[int, str]] = {}  # version and why, by name

    @property
    def previous(self) -> tuple[str, ...]:
        """Return the labels of the policies to go back to, the next one last."""
        return tuple(policy.bundle.label for policy in self._previous)

    def require_new(self, bundle: PolicyBundle) -> None:
        """
        Refuse a policy that was withdrawn, and those that are older.

        :raises BundleError: says which version is needed.
        """
        name, version = bundle.manifest.name, bundle.manifest.version
        withdrawn, why = self._withdrawn.get(name, (-1, ''))
        if version <= withdrawn:
            raise BundleError(f'{bundle.label}: {name}@{withdrawn} was taken back ({why}); '
                              f'only a version after {withdrawn} is accepted')

    def follow(self, policy: PolicyRuntime, proven: bool) -> None:
        """Let a policy come into force; it is something to go back to only once proven."""
        if self.current is not None and self._proven:
            self._previous.append(self.current)
        self.current, self._proven = policy, proven
        self.fell_back = False

    def prove(self) -> None:
        """The policy in force has proven itself."""
        self._proven = True

    def back(self, why: str) -> tuple[PolicyRuntime, PolicyRuntime]:
        """
        Return (the policy in force, which is withdrawn, the one before it, which follows it).

        :param why: it is withdrawn.
        :raises BundleError: there is none before it.
        """
        if self.current is None or not self._previous:
            running = self.current.bundle.label if self.current else 'no policy'
            raise BundleError(f'{running} is running and no policy came before it')
        withdrawn, manifest = self.current, self.current.bundle.manifest
        self._withdrawn[manifest.name] = (manifest.version, why)
        self.current, self._proven = self._previous.pop(), True
        self.fell_back = True
        return withdrawn, self.current
