# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a process of a test may not do."""

import ctypes
import resource

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_CAPBSET_DROP, _CAP_SYS_NICE = 24, 23


def without_real_time() -> None:
    """Take away the right to real-time priorities, also from root; between fork and exec."""
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    _LIBC.prctl(_PR_CAPBSET_DROP, _CAP_SYS_NICE, 0, 0, 0)
