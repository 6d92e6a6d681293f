# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Which topics are to be recorded, as people write it."""

import re

from rl_nodes.core.errors import ConfigError

ALL = 'all'


class TopicChoice:
    """
    Names and regular expressions, separated by spaces; ``all`` is every topic.

    An expression has to fit a whole name, with its namespace or relative to the recorder's.

    :param text: as in ``tf tf_static camera/.*/compressed``; empty for none.
    :raises ConfigError: no regular expression.
    """

    def __init__(self, text: str) -> None:
        words = text.split()
        self.names = tuple(word for word in words if re.fullmatch(r'[\w/]+', word)
                           and word != ALL)
        try:
            self._fitting = [re.compile('.*' if word == ALL else word) for word in words]
        except re.error as error:
            raise ConfigError(f'topics = {text!r}: {error}; expected names or regular '
                              f'expressions separated by spaces, or {ALL}') from None

    def __bool__(self) -> bool:
        return bool(self._fitting)

    def fits(self, *names: str) -> bool:
        """Return whether one of these names of a topic is meant."""
        return any(pattern.fullmatch(name) for pattern in self._fitting for name in names)
