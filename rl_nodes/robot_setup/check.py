# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""``rl_nodes robot init`` and ``rl_nodes robot check``."""

import os
from pathlib import Path

from rl_nodes.backends import installed_backends, make_robot
from rl_nodes.core.errors import BackendError, ConfigError
from rl_nodes.core.resources import find_config, find_urdf, PYBULLET_DATA
from rl_nodes.core.robot import RobotConfig, RobotModel
from rl_nodes.robot_setup.draft import draft
from rl_nodes.robot_setup.inspection import inspect, Problem, read, require_one_robot


def init(source: str, output: str = '') -> tuple[str, bool]:
    """
    Write a configuration for a URDF and say what to do next.

    :param source: path of the URDF, or ``pybullet_data:`` and a path in that package.
    :param output: the .yaml file to write; empty for one beside the URDF, or for PyBullet's in
        the present folder.
    :return: (report, whether the robot can be used as it is).
    :raises ConfigError: not a URDF, not one robot, or the file exists.
    """
    path = find_urdf(source, Path.cwd() / 'robot init')
    urdf = read(path)
    require_one_robot(urdf)
    found = inspect(urdf)
    shared = source.startswith(PYBULLET_DATA)
    target = Path(output).expanduser() if output else (
        Path(f'{path.stem}.yaml') if shared else path.with_suffix('.yaml'))
    if target.suffix not in ('.yaml', '.yml'):
        raise ConfigError(f'output:={output}: expected a path that ends in .yaml')
    beside = target.resolve().parent
    reference = source if shared else (
        path.name if beside == path.parent else os.path.relpath(path, beside))
    try:
        with target.open('x', encoding='utf-8') as file:
            file.write(draft(urdf, reference))
    except FileExistsError:
        raise ConfigError(f'{target} exists; name another one: output:=other.yaml') from None
    except OSError as error:
        raise ConfigError(f'{target} cannot be written: {error.strerror}') from None
    lines = [f'wrote {target}', *_told(found)]
    usable = not any(problem.level == 'FAIL' for problem in found)
    try:
        RobotModel(target.resolve())
    except ConfigError as error:
        usable = False
        lines.append(f'not usable yet: {error}')
    lines.append(f'edit it, then: rl_nodes robot check {target}')
    return '\n'.join(lines), usable


def check(robot: str) -> tuple[str, bool]:
    """
    Describe a robot as everything downstream sees it, and its URDF's problems.

    :param robot: a shipped name, or the path of a .yaml or .urdf file.
    :return: (report, whether it can be used and simulated).
    :raises ConfigError: the configuration cannot be read at all.
    """
    if robot.endswith('.urdf') and not Path(robot).expanduser().with_suffix('.yaml').is_file():
        urdf = read(find_urdf(robot, Path.cwd() / 'robot check'))
        require_one_robot(urdf)
        return '\n'.join([*_told(inspect(urdf)),
                          f'no configuration yet: rl_nodes robot init {robot}']), False
    path = find_config('robots', robot)
    model = RobotModel(path)
    found = inspect(model.urdf, model.joint_names)
    lines = [f'{path}', f'{model.urdf.path}', '', _describe(model), '', *_told(found)]
    usable = not any(problem.level == 'FAIL' for problem in found)
    for backend in installed_backends():
        try:
            make_robot(backend, model).close()
            lines.append(f'{backend}: loads')
        except (BackendError, ConfigError) as error:
            lines.append(f'{backend}: {error}')
            usable = False
    return '\n'.join(lines), usable


def _describe(model: RobotModel) -> str:
    """Return a table of the joints; a limit that the YAML file tightens has a star."""
    config = model.config
    base = 'fixed'
    if config.floating_base:
        base = f'floating, {config.home_height_m:g} m high at home'
    rows = [['joint', 'home', 'lower', 'upper', 'velocity', 'effort', '']]
    for joint, given in zip(model.joints, config.joints, strict=True):
        cells = [joint.name, f'{given.home:g}']
        for name in ('lower', 'upper', 'velocity', 'effort'):
            value = getattr(joint, name)
            cells.append('none' if value is None else f'{value:.4g}' + (
                '' if getattr(given, name) is None else '*'))
        rows.append([*cells, joint.unit + ('' if joint.commanded else ', passive')])
    widths = [max(len(row[i]) for row in rows) for i in range(7)]
    table = ['  '.join(f'{cell:<{width}}' for cell, width in zip(row, widths)).rstrip()
             for row in rows]
    fixed = [f'{name} = {position:g}' for name, position in config.fixed_joints.items()]
    return '\n'.join([
        f'{model.name}: {config.control_mode} control at {config.rate_hz:g} Hz, base '
        f'{config.base_link} {base}, tool {config.tool_link or "none"}',
        *([f'fixed: {", ".join(fixed)}'] if fixed else []),
        *table, '* from the configuration, the others from the URDF', *_cameras(config)])


def _cameras(config: RobotConfig) -> list[str]:
    """Return a line for each camera: what it gives and where its driver has to publish it."""
    return [f'camera {camera.name} on {camera.link}: {camera.width} x {camera.height} at '
            f'{camera.rate_hz:g} Hz; of a physical robot heard on ' + ', '.join(
                f'{source.topic} ({source.type_name})'
                for source in camera.sources(driver=True)[:-1])  # the last only describes
            for camera in config.cameras]


def _told(problems: list[Problem]) -> list[str]:
    """Return a line for each thing that is wrong, with all that it is wrong with."""
    subjects: dict[Problem, list[str]] = {}
    for problem in sorted(problems, key=lambda problem: problem.level):  # FAIL comes first
        subjects.setdefault(problem._replace(subject=''), []).append(problem.subject)
    return [str(problem._replace(subject=', '.join(names)))
            for problem, names in subjects.items()] or ['nothing is wrong with the URDF']
