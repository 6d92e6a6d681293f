# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Ray, which is optional and imported here only: for environments and for sweeps."""

import os
from types import ModuleType

from rl_nodes.core.errors import ConfigError


def require_ray() -> ModuleType:
    """
    Return Ray, started.

    :raises ConfigError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError('Ray is not installed: pip install "rl_nodes[ray]"; without it leave '
                          'ray_workers and engine:=ray out') from None
    os.environ.setdefault('RAY_IGNORE_UNHANDLED_ERRORS', '1')  # one of several is told of here
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level='ERROR')
    return ray
