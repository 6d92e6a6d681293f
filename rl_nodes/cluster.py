# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Ray, which is optional and imported here only: for environments and for sweeps."""

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
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level='ERROR')
    return ray
