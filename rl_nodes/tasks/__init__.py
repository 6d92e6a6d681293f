# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Tasks by type, and the one way to load a robot doing a task."""

from pathlib import Path

from msgspec.structs import replace
from rl_nodes.core.config import convert, read_yaml, suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import find_config
from rl_nodes.core.robot import load_robot
from rl_nodes.tasks.base import Task, TaskConfig
from rl_nodes.tasks.cartpole_balance import CartpoleBalance
from rl_nodes.tasks.cartpole_swingup import CartpoleSwingup
from rl_nodes.tasks.navigate import Navigate
from rl_nodes.tasks.push import Push
from rl_nodes.tasks.quadruped_stand import QuadrupedStand
from rl_nodes.tasks.quadruped_walk import QuadrupedWalk
from rl_nodes.tasks.reach import Reach

TASK_TYPES: dict[str, type[Task]] = {
    'reach': Reach,
    'push': Push,
    'cartpole_balance': CartpoleBalance,
    'cartpole_swingup': CartpoleSwingup,
    'quadruped_stand': QuadrupedStand,
    'quadruped_walk': QuadrupedWalk,
    'navigate': Navigate,
}


def load_task(robot: str, task: str) -> Task:
    """
    Return a robot doing a task.

    :param robot: name in ``config/robots`` or path to a YAML or URDF file.
    :param task: name in ``config/tasks`` or path to a YAML file.
    :raises ConfigError: says which file and key, what came and what is allowed.
    """
    model = load_robot(robot)
    path = find_config('tasks', task)
    data = read_yaml(path)
    kind = data.get('type')
    if kind not in TASK_TYPES:
        raise ConfigError(f'{path}: type = {kind!r}{suggestion(str(kind), TASK_TYPES)}; '
                          f'task types: {", ".join(TASK_TYPES)}')
    task_type = TASK_TYPES[kind]
    try:
        config = convert(data, task_type.config_type, str(path))
        return task_type(path.stem, _located(config, path), model)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(str(path)) else f'{path}: {text}') from None


def _located(config: TaskConfig, path: Path) -> TaskConfig:
    """Return a task's configuration whose files are named from anywhere, not from its folder."""
    section = config.success_classifier
    if section is None:
        return config
    file = path.parent / Path(section.file).expanduser()
    return replace(config, success_classifier=replace(section, file=str(file)))
