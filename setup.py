# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Build rl_nodes with pip or colcon; all metadata is here because colcon reads only this file."""

import os

from setuptools import find_packages, setup

package_name = 'rl_nodes'

# Lower bounds are what the code needs; the tried versions are in constraints.txt.
core = ['numpy>=1.26', 'PyYAML>=6.0', 'msgspec>=0.18', 'mcap>=1.2', 'zstandard>=0.20']
deploy = ['onnxruntime>=1.31', 'onnx>=1.21']
train = ['torch>=2.10', 'gymnasium>=1.0', 'onnx>=1.21', 'onnxscript>=0.5', 'tensorboard>=2.16',
         'matplotlib>=3.6', 'pillow>=10.2']
pybullet = ['pybullet>=3.2.7']
mujoco = ['mujoco>=3.3,<5']
# Wheels for a machine without ROS. Never a core dependency: they would shadow an installed ROS.
ros = ['ros-jazzy-rclpy[fastrtps]>=7.1', 'ros-jazzy-common-interfaces>=5.3']
dev = ['hypothesis>=6.100', 'mypy>=1.10', 'pytest>=8.0', 'pytest-timeout>=2.3', 'ruff>=0.17',
       'stable-baselines3>=2.9']
nodes = ['robot_bridge', 'policy_server', 'safety_monitor', 'reward_computer',
         'experience_recorder', 'trainer', 'evaluator']


def tree(folder):
    """Return data_files entries for every file below a folder."""
    return [(os.path.join('share', package_name, where), [os.path.join(where, f) for f in files])
            for where, _, files in os.walk(folder) if files and '__pycache__' not in where]


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
    python_requires='>=3.11',
    install_requires=core,
    extras_require={
        'core': core, 'train': train, 'deploy': deploy, 'pybullet': pybullet,
        'mujoco': mujoco, 'ros': ros, 'dev': dev,
        'all': [*train, *deploy, *pybullet, *mujoco],
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
