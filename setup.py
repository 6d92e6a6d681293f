# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Build rl_nodes with pip or colcon; all metadata is here because colcon reads only this file."""

from glob import glob
import os
from pathlib import Path
import sys

from setuptools import Extension, find_packages, setup

package_name = 'rl_nodes'

# Lower bounds are what the code needs; the tried versions are in constraints.txt.
core = ['numpy>=1.26', 'PyYAML>=6.0', 'msgspec>=0.18', 'mcap>=1.2', 'zstandard>=0.20',
        'pillow>=10.2']
deploy = ['onnxruntime>=1.31', 'onnx>=1.21']
train = ['torch>=2.10', 'gymnasium>=1.0', 'onnx>=1.21', 'onnxscript>=0.5', 'tensorboard>=2.16',
         'matplotlib>=3.6']
pybullet = ['pybullet>=3.2.7']
mujoco = ['mujoco>=3.3,<5']
# To exchange data sets with other tools.
datasets = ['pyarrow>=20', 'h5py>=3.11', 'av>=14', 'minari>=0.5.3']
# Workers and sweeps on a cluster.
ray = ['ray>=2.40']
# To search settings.
sweep = ['optuna>=4.0']
# Wheels for a machine without ROS. Never a core dependency: they would shadow an installed ROS.
ros = ['ros-jazzy-rclpy[fastrtps]>=7.1', 'ros-jazzy-common-interfaces>=5.3']
dev = ['coverage>=7.4', 'hypothesis>=6.100', 'mypy>=1.10', 'pytest>=8.0', 'pytest-timeout>=2.3',
       'pytest-xdist>=3.6', 'rosbags>=0.10', 'ruff>=0.17', 'stable-baselines3>=2.9']
nodes = ['robot_bridge', 'policy_server', 'safety_monitor', 'reward_computer',
         'experience_recorder', 'trainer', 'evaluator', 'camera', 'teleop', 'keyboard',
         'record_session']


def tree(folder):
    """Return data_files entries for every file below a folder."""
    return [(os.path.join('share', package_name, where), [os.path.join(where, f) for f in files])
            for where, _, files in os.walk(folder) if files and '__pycache__' not in where]


def control_tick():
    """
    Return the C++ extension of the policy server, or nothing where ROS or pybind11 is missing.

    It is optional: a machine without a compiler gets the Python control path.
    """
    prefixes = [sys.prefix, *os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)]
    prefix = next((Path(p) for p in prefixes if p and (Path(p) / 'include/rcl').is_dir()), None)
    try:
        import pybind11
        headers = [pybind11.get_include()]
    except ImportError:  # a system package puts them where the compiler looks by itself
        headers = []
    if prefix is None:
        print('note: ROS 2 is not installed, so the C++ control path is not built; the policy '
              'server will answer in Python', file=sys.stderr)
        return []
    types = [f'{package}__rosidl_typesupport_c'
             for package in ('sensor_msgs', 'geometry_msgs', 'nav_msgs')]
    return [Extension(
        f'{package_name}.realtime._control',
        sorted(glob(f'{package_name}/realtime/src/*.cpp')),
        depends=sorted(glob(f'{package_name}/realtime/src/*.hpp')),
        include_dirs=[*headers, *(str(p) for p in (prefix / 'include').iterdir() if p.is_dir())],
        library_dirs=[str(prefix / 'lib')], runtime_library_dirs=[str(prefix / 'lib')],
        libraries=['rcl', 'rcutils', *types], language='c++', optional=True,
        # No fused multiply-add: the same bits as the Python path, on every machine.
        extra_compile_args=['-std=c++17', '-O2', '-ffp-contract=off', '-fvisibility=hidden'])]


setup(
    name=package_name,
    version='0.1.0',
    description='Robot learning as ROS 2 nodes: train, record, deploy, and stay safe.',
    license='Apache-2.0',
    maintainer='rl_nodes contributors',
    maintainer_email='rl_nodes@example.com',
    author='rl_nodes contributors',
    author_email='rl_nodes@example.com',
    packages=find_packages(include=[package_name, f'{package_name}.*']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        *tree('launch'), *tree('config'), *tree('urdf'),
    ],
    ext_modules=control_tick(),
    python_requires='>=3.11',
    install_requires=core,
    extras_require={
        'core': core, 'train': train, 'deploy': deploy, 'pybullet': pybullet,
        'mujoco': mujoco, 'datasets': datasets, 'sweep': sweep, 'ray': ray, 'ros': ros, 'dev': dev,
        'all': [*train, *deploy, *pybullet, *mujoco, *datasets],
        'test': ['pytest', 'pytest-timeout'],  # by this colcon knows to run pytest
    },
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'rl_nodes = rl_nodes.cli:main',
            *(f'{node} = rl_nodes.nodes.{node}:main' for node in nodes),
        ],
    },
)
