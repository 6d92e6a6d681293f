# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Commands that the pages show have arguments that exist, with values that are allowed."""

import contextlib
import functools
import io
from pathlib import Path
import re
import shlex

import pytest
from rl_nodes import cli
from rl_nodes.core.errors import ConfigError, RlNodesError
from rl_nodes.core.resources import find_config
from rl_nodes.graph_arguments import resolve
from rl_nodes.training.sources import environment_maker
from rl_nodes.words import parse_assignments

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = ('rl_nodes_test/',)  # registered by test/learning


def commands() -> list[str]:
    """Return every shown command, its lines joined, without comments and placeholders."""
    found = []
    for page in [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]:
        text = page.read_text().replace('\\\n', ' ')
        for line in re.findall(r'^ {4,}(?:\w+=\S+ )*(rl_nodes .+)$', text, re.M):
            line = re.sub(r'\s+(#.*|\[.*|&)$', '', line)
            found.append(re.sub(r'<(\w+)>', r'\1', ' '.join(line.split())))
    return sorted(set(found))


@functools.cache
def helped(command: str) -> frozenset[str]:
    """Return the arguments that the help of a command names."""
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert cli.main([command, '--help']) == 0
    return frozenset(re.findall(r'^  (\w+)  \(', shown.getvalue(), re.M))


def check(command: str) -> None:
    """Take a command as far as its arguments."""
    words = shlex.split(command)[1:]
    options = cli._parser().parse_args(words)
    given = parse_assignments([word for word in words if ':=' in word])
    if words[0] == 'launch':
        resolve(words[1], given)
    elif words[0] == 'replay':
        resolve('replay', given | {'episode': words[1]})
    elif words[0] in ('solve', 'sweep', 'train'):
        known = helped(words[0]) | (helped('train') if words[0] == 'sweep' else set())
        for name in given:
            if '.' not in name and name not in known:
                raise ConfigError(f'{command}: {name}, expected one of {sorted(known)}')
        find_config('train', given.get('algorithm', 'sac').split(',')[0])
    if words[0] == 'train' and 'env' in given:
        module, env = given.get('env_module', ''), cli._train_options(given).env
        if env.startswith('rl_nodes/') and module != 'rl_nodes.envs':  # it may be imported already
            raise ConfigError(f'{command}: env_module:=rl_nodes.envs registers {env}')
        if not env.startswith(ELSEWHERE):
            environment_maker(env, module)
    assert options.run


@pytest.mark.parametrize('command', commands())
def test_a_shown_command_is_accepted(command):
    check(command)


def test_a_wrong_command_is_noticed():
    for wrong in ('rl_nodes train env:=CartPole-v1 algorithm:=ppo_cratpole',
                  'rl_nodes launch train taks:=reach', 'rl_nodes solve mehtod:=sarsa',
                  'rl_nodes train algorithm:=bc data:=runs',
                  'rl_nodes train env:=rl_nodes/Unheard-v0 env_module:=rl_nodes.envs',
                  'rl_nodes train env:=rl_nodes/Reach-v0 target:=0.95'):
        with pytest.raises(RlNodesError):
            check(wrong)
