# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The pages in ``docs/tasks`` say what the contracts say.

``python test/unit/tasks/test_task_pages.py`` writes them anew.
"""

from pathlib import Path
import sys

import pytest
from rl_nodes.core.config import read_yaml
from rl_nodes.core.resources import find_config, share_directory
from rl_nodes.core.specs import ArraySpec
from rl_nodes.envs import ENVIRONMENTS
from rl_nodes.tasks import load_task

FOLDER = share_directory() / 'docs' / 'tasks'
MEANING = {
    'joint_position_delta': 'Position target relative to the present position: 1 is `scale` of '
                            'what the speed limit allows in one period.',
    'joint_position_home': 'Position target relative to home: 1 is `scale` of the distance from '
                           'home to the nearer position limit.',
    'joint_velocity': 'Velocity target: 1 is `scale` of the speed limit.',
    'planar_velocity': 'Speeds of two driven wheels: `forward` 1 is straight ahead, `turn` 1 a '
                       'turn to the left on the spot, each at `scale` of the speed limit; both '
                       'are reduced alike where they are too much together.',
    'joint_effort': 'Effort: 1 is `scale` of the effort limit.'}


def table(spec: ArraySpec) -> list[str]:
    """Return a table of a layout: index, name, unit, range."""
    rows = ['| index | name | unit | range |', '| ---: | --- | --- | --- |']
    for index, (name, unit, low, high) in enumerate(zip(spec.elements, spec.units, spec.low,
                                                        spec.high, strict=True)):
        ends = ['-∞' if low is None else f'{low:g}', '∞' if high is None else f'{high:g}']
        rows.append(f'| {index} | `{name}` | {unit} | [{", ".join(ends)}] |')
    return rows


def page(env_id: str) -> str:
    """Return the page of an environment."""
    robot, name = ENVIRONMENTS[env_id]
    task = load_task(robot, name)
    settings = read_yaml(find_config('tasks', name))
    text = (sys.modules[type(task).__module__].__doc__ or '').strip()
    formula = ' '.join(f'{"+" if weight >= 0 else "-"} {abs(weight):g} · {term}'
                       for term, weight in settings['reward'].items()).removeprefix('+ ')
    keys = [f'| `{key}` | {value} |' for key, value in settings.items()
            if key not in ('type', 'observation', 'action', 'reward')]
    contract = task.contract
    return '\n'.join([
        f'# {name}', '',
        f'`gymnasium.make("{env_id}")`, `rl_nodes launch train task:={name} robot:={robot}`; '
        f'{contract.rate_hz:g} steps per second, {task.episode_steps} steps at most.', '',
        text, '',
        '## Action', '',
        f'`{contract.action_kind}`, scale {settings["action"].get("scale", 1.0):g}. '
        f'{MEANING[contract.action_kind]}', '', *table(contract.action), '',
        '## Observation', '',
        'Bounds are those of a healthy robot; they are not enforced.', '',
        *table(contract.observation), '',
        *([] if contract.privileged is None else [
            '## Privileged', '', 'For critics and teachers while training, never for the policy.',
            '', *table(contract.privileged), '']),
        '## Reward', '', f'    r = {formula}', '',
        '## Settings', '', '| key | value |', '| --- | --- |', *keys, ''])


@pytest.mark.parametrize('env_id', ENVIRONMENTS)
def test_the_page_is_up_to_date(env_id: str) -> None:
    path = FOLDER / f'{ENVIRONMENTS[env_id][1]}.md'
    assert path.is_file(), f'write it: python {Path(__file__).name}'
    assert path.read_text() == page(env_id), f'out of date; write it: python {Path(__file__).name}'


if __name__ == '__main__':
    FOLDER.mkdir(exist_ok=True)
    for registered in ENVIRONMENTS:
        (FOLDER / f'{ENVIRONMENTS[registered][1]}.md').write_text(page(registered))
