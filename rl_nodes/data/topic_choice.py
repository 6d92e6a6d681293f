# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Which topics are to be recorded, as people write it."""

import re

from rl_nodes.core.errors import ConfigError

ALL = 'all'
# Topics of the whole machine, by their absolute names, which are every robot's.
GLOBAL = frozenset(f'/{name}' for name in (
    'clock', 'diagnostics', 'diagnostics_agg', 'parameter_events', 'robot_description', 'rosout',
    'tf', 'tf_static'))


class TopicChoice:
    """
    Names and regular expressions, separated by spaces.

    ``all`` is every topic in the recorder's namespace, and those of ``GLOBAL``. An expression has
    to fit a whole name, with its namespace or relative to the recorder's.

    :param text: as in ``tf tf_static camera/.*/compressed``; empty for none.
    :raises ConfigError: no regular expression.
    """

    def __init__(self, text: str) -> None:
        words = text.split()
        self.names = tuple(word for word in words if re.fullmatch(r'[\w/]+', word)
                           and word != ALL)
        try:
            self._fitting = [re.compile(word) for word in words if word != ALL]
        except re.error as error:
            raise ConfigError(f'topics = {text!r}: {error}; expected names or regular '
                              f'expressions separated by spaces, or {ALL}') from None
        self._all = ALL in words

    def __bool__(self) -> bool:
        return self._all or bool(self._fitting)

    def fits(self, topic: str, namespace: str = '/') -> bool:
        """
        Return whether a topic is meant.

        :param topic: its absolute name.
        :param namespace: of the recorder, ending in a slash.
        """
        if self._all and (topic.startswith(namespace) or topic in GLOBAL):
            return True
        names = topic, topic.removeprefix(namespace)
        return any(pattern.fullmatch(name) for pattern in self._fitting for name in names)
