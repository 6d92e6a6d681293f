# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The text of ``docs/results.md``, drawn from the records of runs."""

from collections.abc import Sequence
import itertools

from results_runs import (
    costs,
    EPISODES,
    GYMNASIUM,
    MethodRun,
    Record,
    returns,
    Runs,
    successes,
    TaskRun,
)
from rl_nodes.backends import BACKENDS
from rl_nodes.runs.statistics import interquartile_mean

HEAD = """# Results

Written by `python test/learning/results.py` (`make test-learning` runs it) from the runs in
[results.jsonl](results.jsonl), which also has every seed by itself.

Success and return are those of the exported ONNX policy on {episodes} episodes that neither
training nor its evaluations have seen. Over seeds: the mean of the middle half (IQM) of the runs,
in brackets the least and the greatest. A run ends when its target is confirmed, so steps and time
say how long that took, beside whatever else the machine had to do.
"""

METHODS = """## Methods on environments of others

The best policy that was evaluated, undiscounted return. The middle mean over seeds has to reach
`expected`: 475 and 90 are the own marks of CartPole and MountainCarContinuous, elsewhere it is the
published mean less the standard error that 50 episodes of the published spread have. Published, on
episodes of their own: rl-baselines3-zoo's agents, mean ± spread over episodes @ control steps.
Environments in `rl_nodes_test/` are made of others in `test/learning`; what lacks there what they
ask for (a memory, demonstrations) is expected to stay `below`. A cost may exceed its limit by the
standard error that 50 episodes have.
Other work kept the cores busy: steps tell more here than wall time. ReacherBulletEnv-v0 needs
`pip install pybullet_envs_gymnasium==0.6.0`.
"""


def page(runs: Runs, records: Sequence[Record], present: dict[str, str]) -> str:
    """
    Return the text of ``docs/results.md``.

    :param present: digest of the present configuration by name of run.
    """
    lines = [HEAD.format(episodes=EPISODES), '## Tasks of this package', '',
             '| task | robot | trained in | config | seeds | steps | wall time | success | '
             'return |',
             '| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |']
    across = ['## Carried over to the other simulator', '',
              'The same policies, without any further learning.', '',
              '| task | robot | trained in | '
              + ' | '.join(f'success in {name}' for name in BACKENDS) + ' |',
              '| --- | --- | --- |' + ' ---: |' * len(BACKENDS)]
    mine = {run.name: [record for record in records if record.name == run.name]
            for run in (*runs.tasks, *runs.methods)}
    old = {name for name, found in mine.items()
           if any(record.configuration != present[name] for record in found)}
    for run in runs.tasks:
        found, mark = mine[run.name], ' †' if run.name in old else ''
        lines.append(_task_row(run, found, mark))
        if found:
            across.append(_row(f'{run.task}{mark}', run.robot, run.backend, *(
                _range(successes(found, backend), '{:.0%}') for backend in BACKENDS)))
    lines += ['', *across, '', METHODS]
    for env, group in itertools.groupby(runs.methods, lambda run: run.env):
        shown = list(group)
        cost = next((run.cost for run in shown if run.cost), '')
        lines += [f'### {env}', '', *_method_head(cost),
                  *(_method_row(run, mine[run.name], ' †' if run.name in old else '', cost)
                    for run in shown), '']
    if old:
        lines += ['† of an earlier form of task, robot or learner; run it again.', '']
    machines = sorted({record.machine for record in records})
    return '\n'.join([*lines, f'Machines: {"; ".join(machines) or "none yet"}.', ''])


def _task_row(run: TaskRun, found: Sequence[Record], mark: str) -> str:
    first = f'{run.task}{mark}', run.robot, run.backend, run.algorithm
    if not found:
        return _row(*first, '0', '', '', 'not run yet', '')
    return _row(*first, *_effort(found), _range(successes(found, run.backend), '{:.0%}'),
                _range(returns(found, run.backend), '{:.1f}'))


def _method_head(cost: str) -> tuple[str, str]:
    """Return the head of a table, with a column of costs where there is such a thing."""
    if cost:
        return (f'| config | seeds | steps | wall time | return | {cost} | expected | | published '
                '|', '| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |')
    return ('| config | seeds | steps | wall time | return | expected | | published |',
            '| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |')


def _method_row(run: MethodRun, found: Sequence[Record], mark: str, cost: str) -> str:
    first, last = f'{run.settings}{mark}', run.published or '–'
    expected = ('below ' if run.in_vain else '') + f'{run.expect:g}'
    if run.most_cost is not None:
        expected += f', {cost} ≤ {run.most_cost:g}'
    spent = (_range(costs(found), '{:.1f}'),) if cost else ()
    if not found:
        return _row(first, '0', '', '', 'not run yet', *spent, expected, '', last)
    return _row(first, *_effort(found), _range(returns(found, GYMNASIUM), '{:.1f}'), *spent,
                expected, 'yes' if run.met(found) else '**no**', last)


def _effort(found: Sequence[Record]) -> tuple[str, str, str]:
    return (str(len(found)), _range([record.steps for record in found], '{:,.0f}'),
            _range([record.elapsed_s for record in found], '{:.0f} s'))


def _row(*cells: str) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def _range(values: Sequence[float], form: str) -> str:
    """Return the middle mean of values and, of several, the least and the greatest."""
    if not values:
        return ''
    low, high = form.format(min(values)), form.format(max(values))
    return form.format(interquartile_mean(values)) + (f' ({low} to {high})' if low != high else '')
