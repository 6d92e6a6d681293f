# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Which part may import which, and which constructs are banned everywhere.

The source is parsed, not imported, so the rules hold for code that no test runs.
"""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'rl_nodes'

# Every part and the parts right below it. What those may import, it may import too.
BELOW = {
    'core': (),
    'safety': ('core',),
    'rewards': ('core',),
    'networks': ('core',),
    'data': ('core',),
    'backends': ('core',),
    'inference': ('core',),
    'inference.export': ('networks', 'inference'),
    'algorithms': ('networks', 'data'),
    'control': ('core',),
    'tasks': ('rewards', 'control', 'inference'),
    'realtime': ('tasks',),
    'cluster': ('core',),
    'envs': ('backends', 'tasks', 'safety', 'cluster'),
    'envs.ros_env': ('envs',),
    'teleop': ('tasks', 'safety'),
    'runs': ('core',),
    'training': ('algorithms', 'data', 'envs', 'inference.export', 'runs'),
    'sweep': ('runs', 'orphan_guard', 'cluster'),
    'nodes': ('training', 'inference', 'realtime', 'safety', 'tasks', 'backends', 'data',
              'teleop'),
    # The way in: which nodes run, with which arguments.
    'graph_arguments': ('core', 'backends'),
    'graph': ('graph_arguments', 'tasks', 'inference', 'data', 'safety'),
    'console': (),
    'words': ('core',),
    'orphan_guard': (),
    'runner': ('graph', 'console', 'orphan_guard'),
    'launch_description': ('runner',),
    'doctor': ('realtime',),
    'robot_setup': ('backends', 'control'),
    'policies': ('tasks', 'inference'),
    'datasets': ('nodes',),
    'cli': ('runner', 'nodes', 'datasets', 'doctor', 'robot_setup', 'policies', 'runs', 'sweep',
            'words'),
    '__main__': ('cli',),
}

# The one arrow that points up, and only inside of a function: the environment whose robot is the
# running graph needs ROS, but only once it is built.
INSIDE_ONLY = {'envs.ros_env': 'nodes.graph_client'}

# A library and the only places that may name it; True: inside of a function only.
PLACES = {
    'rclpy': {'nodes': False, 'realtime': False},
    'launch': {'launch_description': True},
    'launch_ros': {'launch_description': True},
    'torch': {'networks': False, 'algorithms': False, 'training': False, 'data': False,
              'inference.export': False, 'nodes.trainer': False},
    'onnxruntime': {'inference.runtime': False, 'inference.batching': False,
                    'inference.export': True},
    'ray': {'cluster': True},
    'optuna': {'sweep.search': True},
    'gymnasium': {'envs': False, 'training': False, 'datasets.minari': False},
    'pybullet': {'backends.pybullet_objects': False, 'backends.pybullet_physics': False,
                 'backends.pybullet_rays': False, 'backends.pybullet_robot': False,
                 'backends.pybullet_sensors': False,
                 'backends.pybullet_view': False},
    'mujoco': {'backends.mujoco_objects': False, 'backends.mujoco_physics': False,
               'backends.mujoco_rays': False, 'backends.mujoco_robot': False,
               'backends.mujoco_sensors': False,
               'backends.mujoco_urdf': False},
}
MESSAGES = ('_msgs', '_srvs', 'builtin_interfaces', 'rcl_interfaces')

# What a node's process must never load, not even through others: control has no place for it.
NEVER_LOADED = {
    'nodes.robot_bridge': ('torch',),
    'nodes.safety_monitor': ('torch', 'onnxruntime', 'pybullet', 'mujoco', 'gymnasium', 'onnx',
                             'mcap'),
    'nodes.reward_computer': ('torch', 'onnxruntime'),
    'nodes.policy_server': ('torch', 'pybullet', 'mujoco'),
    'nodes.teleop': ('torch', 'onnxruntime', 'pybullet', 'mujoco', 'gymnasium'),
    'nodes.keyboard': ('torch', 'onnxruntime', 'pybullet', 'mujoco', 'gymnasium'),
    'nodes.experience_recorder': ('torch', 'onnxruntime', 'pybullet', 'mujoco'),
    'nodes.camera': ('torch', 'onnxruntime'),
    'runner': ('torch', 'onnxruntime', 'rclpy', 'pybullet', 'mujoco', 'gymnasium'),
    'envs.ros_env': ('torch', 'onnxruntime', 'rclpy', 'pybullet', 'mujoco'),
    'cli': ('torch', 'onnxruntime', 'rclpy', 'pybullet', 'mujoco', 'gymnasium', 'numpy'),
}
CORE_LIBRARIES = {'numpy', 'yaml', 'msgspec'}
SAFETY_LIBRARIES = {'numpy', 'msgspec'}
EXECUTABLE_DATA = {'pickle', 'cPickle', '_pickle', 'dill', 'cloudpickle', 'joblib', 'shelve',
                   'marshal'}


def modules():
    return sorted(path for path in PACKAGE.rglob('*.py') if '__pycache__' not in path.parts)


def name_of(path):
    """Return a module's name below the package, empty for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    return '.'.join(part for part in parts if part != '__init__')


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding='utf-8'), str(path))


def is_type_checking(node):
    return isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test)


def imports(node, inside=False):
    """Yield (name, inside a function) of everything imported below a node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f'line {child.lineno}: relative import'
            yield child.module, inside
            yield from ((f'{child.module}.{alias.name}', inside) for alias in child.names)
        elif not is_type_checking(child):
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from imports(child, inside or function)


@cache
def imports_of(path):
    return tuple(imports(tree_of(path)))


def part_of(module):
    """Return the most special part that a module belongs to."""
    found = [part for part in BELOW if module == part or module.startswith(f'{part}.')]
    return max(found, key=len) if found else None


def allowed_below(part):
    found, waiting = {part}, list(BELOW[part])
    while waiting:
        below = waiting.pop()
        found.add(below)
        waiting += BELOW[below]
    return found


def matches(module, place):
    return module == place or module.startswith(f'{place}.')


every_module = pytest.mark.parametrize('path', modules(), ids=lambda p: name_of(p) or 'rl_nodes')


@every_module
def test_arrows_point_down(path):
    module = name_of(path)
    if not module:
        assert not imports_of(path), 'the package itself imports nothing'
        return
    part = part_of(module)
    assert part is not None, f'{module} has no place in BELOW; decide where it belongs'
    allowed = allowed_below(part)
    for name, inside in imports_of(path):
        if inside and matches(name.removeprefix('rl_nodes.'), INSIDE_ONLY.get(module, '-')):
            continue
        if name.startswith('rl_nodes.'):
            target = part_of(name.removeprefix('rl_nodes.'))
            if target is None and name == 'rl_nodes.__version__':
                continue
            assert target in allowed, f'{module} ({part}) imports {name} ({target})'


@every_module
def test_libraries_stay_where_they_belong(path):
    module = name_of(path)
    for name, inside in imports_of(path):
        library = name.split('.')[0]
        if library.endswith(MESSAGES[:2]) or library in MESSAGES:
            library = 'rclpy'
        if library not in PLACES:
            continue
        rules = [only_inside for place, only_inside in PLACES[library].items()
                 if matches(module, place)]
        assert rules, f'{module} imports {name}; allowed in {", ".join(PLACES[library])}'
        assert inside or not all(rules), f'{module}: {name} only inside of a function'


def test_files_of_tests_have_names_of_their_own():
    """Or pytest refuses to collect them together."""
    names = Counter(path.name for path in ROOT.glob('test/**/test_*.py'))
    assert [name for name, count in names.items() if count > 1] == []


@every_module
def test_core_and_safety_need_little(path):
    import sys

    module = name_of(path)
    known = {'core': CORE_LIBRARIES, 'safety': SAFETY_LIBRARIES}.get(module.split('.')[0])
    if known is None:
        return
    for name, _ in imports_of(path):
        library = name.split('.')[0]
        assert library in {'rl_nodes', *sys.stdlib_module_names, *known}, f'{module}: {name}'


def loaded_by(module):
    """Return every module and library that is loaded when a module is imported."""
    paths = {name_of(path): path for path in modules()}
    found, waiting = set(), [module]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        if current not in paths:
            continue
        for name, inside in imports_of(paths[current]):
            if inside:
                continue
            if not name.startswith('rl_nodes.'):
                found.add(name.split('.')[0])
                continue
            parts = name.removeprefix('rl_nodes.').split('.')
            waiting += ['.'.join(parts[:i]) for i in range(1, len(parts) + 1)]
    return found


@pytest.mark.parametrize('module', NEVER_LOADED)
def test_control_processes_stay_light(module):
    assert module in {name_of(path) for path in modules()}, f'{module} is gone; so is its rule?'
    heavy = set(NEVER_LOADED[module]) & loaded_by(module)
    assert not heavy, f'importing {module} loads {", ".join(sorted(heavy))}'


# --- Constructs that run or trust what they read --------------------------------------------

def banned(tree):
    """Yield (line, what) for each construct that must not occur."""
    for name, _ in imports(tree):
        if name.split('.')[0] in EXECUTABLE_DATA:
            yield 0, f'import {name}'
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func)
        options = {option.arg: option.value for option in node.keywords}
        for option, bad in (('weights_only', False), ('allow_pickle', True)):
            value = options.get(option)
            if value is not None and getattr(value, 'value', bad) == bad:
                yield node.lineno, f'{option}={bad}'
        if function in ('eval', 'exec', 'os.system'):
            yield node.lineno, function
        if function == 'torch.load' and 'weights_only' not in options:
            yield node.lineno, 'torch.load without weights_only=True'
        if function in ('yaml.load', 'yaml.unsafe_load', 'yaml.full_load', 'yaml.load_all'):
            loader = ast.unparse(options['Loader']) if 'Loader' in options else ''
            if function != 'yaml.load' or loader not in ('_Loader', 'yaml.SafeLoader'):
                yield node.lineno, f'{function} without our loader'


@pytest.mark.parametrize(
    'path', [*modules(), *sorted((ROOT / 'benchmarks').rglob('*.py'))],
    ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_that_runs_what_it_reads(path):
    found = [f'line {line}: {what}' for line, what in banned(tree_of(path))]
    assert not found, found


@pytest.mark.parametrize('text', [
    'import pickle', 'from pickle import loads', 'def f():\n    import dill',
    'torch.load(p)', 'torch.load(p, weights_only=False)', 'torch.load(p, weights_only=flag)',
    'np.load(p, allow_pickle=True)', 'yaml.load(t)', 'yaml.load(t, Loader=yaml.Loader)',
    'yaml.unsafe_load(t)', 'eval(t)', 'exec(t)'])
def test_the_ban_finds(text):
    assert list(banned(ast.parse(text)))


@pytest.mark.parametrize('text', [
    'import json', 'torch.load(p, weights_only=True)', 'np.load(p)', 'model.eval()',
    'np.load(p, allow_pickle=False)', 'yaml.load(t, Loader=_Loader)'])
def test_the_ban_lets_pass(text):
    assert not list(banned(ast.parse(text)))


def test_print_only_where_a_person_reads():
    allowed = {'cli', 'doctor', 'nodes.lifecycle'}  # the last: why a node refuses to start
    for path in modules():
        calls = [node.lineno for node in ast.walk(tree_of(path))
                 if isinstance(node, ast.Call) and ast.unparse(node.func) == 'print']
        assert not calls or name_of(path) in allowed, f'{path}: print at lines {calls}'
