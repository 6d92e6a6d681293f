# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the policy server."""

import re
from typing import Annotated, Literal

from msgspec import Meta
from rl_nodes.nodes.parameters import NodeParameters, Priority


class PolicyParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the policy server.

    :param policy: path of a policy's .onnx file; empty to wait for policy/update
    :param sampling: deterministic (deployment) or stochastic (exploration while training)
    :param seed: of the exploration noise
    :param robots: how many are served; beyond one each has its namespace robot_<number>
    :param batch: answer the states that have come of several robots in one run of the policy, in
        Python; for large networks, see docs/policy_server.md
    :param shadow: path of a candidate's .onnx file, which is asked what it would do and never does
        it; empty for none
    :param camera_drivers: the cameras that it observes are physical, their drivers publish on the
        topics that the robot's YAML names
    :param fallback: controller that answers while there is no policy, or where the one in force
        fails or has no action: hold, pd or lqr, see docs/deployment.md; none for silence
    :param chunk_blend: of policies that answer with several actions: ensemble or crossfade
    :param chunk_decay: of the ensemble, per control period; 0 for the mean of all chunks
    :param chunk_fade_steps: of the crossfade, control periods until a new chunk has taken over
    :param rollback_states: commands over which what the safety monitor makes of a new policy is
        compared with what it made of the one before, which acts again if it has become worse; 0
        for never, as always while exploring
    :param rollback_margin: share of these commands by which limited and held ones may rise
    :param providers: of ONNX Runtime, cpu, cuda or tensorrt, the first that can as in cuda,cpu;
        others than cpu compute in Python
    :param threads: inside one operator; more than 1 compute in Python, and help large networks
        only
    :param control_path: cpp or python; auto takes cpp where it can be had, and says so
    :param fixed_rate: cpp only; answer the newest state at the robot's rate, by absolute deadlines
    :param busy_poll: cpp only; look for states without pause, which takes a whole core
    :param priority: of SCHED_FIFO, 1 to 99, for what brings and answers states; 0 for the usual
        scheduling; see docs/realtime.md
    :param cpus: cpp only; processors that the thread may run on, as in 2,3; empty for all
    :param lock_memory: cpp only; keep the process from being swapped out
    """

    policy: str = ''
    sampling: Literal['deterministic', 'stochastic'] = 'deterministic'
    seed: Annotated[int, Meta(ge=0)] = 0
    robots: Annotated[int, Meta(ge=1)] = 1
    batch: bool = False
    shadow: str = ''
    camera_drivers: bool = False
    fallback: Literal['none', 'hold', 'pd', 'lqr'] = 'none'
    chunk_blend: Literal['ensemble', 'crossfade'] = 'ensemble'
    chunk_decay: Annotated[float, Meta(ge=0, le=10)] = 0.01
    chunk_fade_steps: Annotated[int, Meta(ge=0, le=1000)] = 4
    rollback_states: Annotated[int, Meta(ge=0, le=10**6)] = 200
    rollback_margin: Annotated[float, Meta(ge=0, le=1)] = 0.2
    providers: str = 'cpu'
    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    control_path: Literal['auto', 'cpp', 'python'] = 'auto'
    fixed_rate: bool = False
    busy_poll: bool = False
    priority: Priority = 0
    cpus: str = ''
    lock_memory: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r'(\d+(,\d+)*)?', self.cpus):
            raise ValueError(f'cpus = {self.cpus!r}; expected numbers as in 2,3')
        if self.fixed_rate and self.busy_poll:
            raise ValueError('fixed_rate and busy_poll exclude each other')
        if self.batch and self.robots == 1:
            raise ValueError('batch = true with robots = 1: there is nothing to answer together; '
                             'leave it out')
        if self.batch and self.sampling == 'stochastic':
            raise ValueError('batch = true with sampling = stochastic: robots that explore are '
                             'answered one by one, so that each does what it would do alone')
