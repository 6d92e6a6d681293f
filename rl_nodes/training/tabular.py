# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Solve a small environment by a table: the function behind ``rl_nodes solve``.

Any Gymnasium environment of discrete observations and actions will do; methods that plan need its
table of transitions ``P`` besides, which grid worlds and Gymnasium's toy_text environments have.
"""

from typing import Annotated, Literal

import gymnasium
from gymnasium import spaces
import msgspec
import numpy as np
from rl_nodes.algorithms import tabular
from rl_nodes.core.errors import TrainingError
from rl_nodes.envs.grid_world import GridWorld, NAMES
from rl_nodes.training.sources import environment_maker

_Probability = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]


class SolveOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What to solve, and how.

    :param env: id of a Gymnasium environment with discrete observations and actions.
    :param env_module: module whose import registers it.
    :param method: policy_evaluation (of the uniformly random policy), policy_iteration and
        value_iteration need the environment's table of transitions; q_learning and sarsa learn
        from steps in it.
    :param discount: gamma, per step.
    :param tolerance: sweeps end when no value changes by more.
    :param sweeps: at most so many.
    :param steps: of q_learning and sarsa.
    :param step_size: alpha at the first visit of a state and action.
    :param step_decay: alpha falls with visits to the power of minus this; 0 keeps it.
    :param exploration: probability of a random action at the start.
    :param exploration_end: and after exploration_fraction of the steps.
    :param exploration_fraction: part of the steps over which it falls.
    :param seed: of the environment and of the exploration.
    """

    env: str = 'rl_nodes/GridWorld-v0'
    env_module: str = 'rl_nodes.envs'
    method: Literal['policy_evaluation', 'policy_iteration', 'value_iteration', 'q_learning',
                    'sarsa'] = 'value_iteration'
    discount: _Probability = 0.9
    tolerance: Annotated[float, msgspec.Meta(ge=0.0)] = 1e-9
    sweeps: _Count = 10_000
    steps: _Count = 100_000
    step_size: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0
    step_decay: _Probability = 0.6
    exploration: _Probability = 1.0
    exploration_end: _Probability = 0.1
    exploration_fraction: _Probability = 0.5
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0


def solve(options: SolveOptions) -> tuple[tabular.Solution, str]:
    """
    Return the solution and a text with its tables.

    :raises TrainingError: the environment is unknown or does not fit the method.
    """
    env = environment_maker(options.env, options.env_module)()
    try:
        solution = _solution(env, options)
        return solution, _report(env, options, solution)
    finally:
        env.close()


def _solution(env: gymnasium.Env, options: SolveOptions) -> tabular.Solution:
    sizes = []
    for role, space in (('observation', env.observation_space), ('action', env.action_space)):
        if not isinstance(space, spaces.Discrete) or space.start != 0:
            raise TrainingError(f'{options.env}: the {role} space is {space}; tables need '
                                'Discrete ones that begin with 0. Use rl_nodes train for others')
        sizes.append(int(space.n))
    if options.method in ('q_learning', 'sarsa'):
        learn = tabular.q_learning if options.method == 'q_learning' else tabular.sarsa
        return learn(env, *sizes, tabular.Experience(
            options.discount, options.steps, options.step_size, options.step_decay,
            options.exploration, options.exploration_end, options.exploration_fraction),
            options.seed)
    table = getattr(env.unwrapped, 'P', None)
    if table is None:
        raise TrainingError(f'{options.env} has no table of transitions P, which '
                            f'{options.method} needs; use q_learning or sarsa')
    mdp, limits = tabular.Mdp.of(table), (options.discount, options.tolerance, options.sweeps)
    if options.method == 'policy_evaluation':
        return tabular.evaluate_policy(mdp, np.full(mdp.reward.shape, 1.0 / sizes[1]), *limits)
    iterate = tabular.iterate_policies if options.method == 'policy_iteration' \
        else tabular.iterate_values
    return iterate(mdp, *limits)


def _report(env: gymnasium.Env, options: SolveOptions, solution: tabular.Solution) -> str:
    counted = {'policy_iteration': 'improvements', 'q_learning': 'steps', 'sarsa': 'steps'}
    values = [f'{value:.2f}' for value in solution.values]
    head = (f'{options.env}, {options.method}, discount {options.discount:g}, '
            f'{solution.rounds} {counted.get(options.method, "sweeps")}')
    world = env.unwrapped
    if not isinstance(world, GridWorld):
        rows = [f'{state:5d} {value:>9} {action:7d}' for state, (value, action) in enumerate(
            zip(values, solution.policy.tolist()))]
        return '\n'.join([head, '', 'state     value  action', *rows])
    arrows = ['*' if world.is_exit(state) else NAMES[action]
              for state, action in enumerate(solution.policy.tolist())]
    greedy = 'greedy policy (* exit)'
    return '\n'.join([head, '', 'values', world.draw(values), '', greedy, world.draw(arrows)])
