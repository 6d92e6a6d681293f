# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What arguments of a sweep mean."""

import pytest
from rl_nodes.core.errors import ConfigError
from rl_nodes.sweep.plan import Range, read_plan, require_same_plan, run_name


def test_values_ranges_and_seeds():
    plan = read_plan({'env': 'Pendulum-v1', 'algorithm': 'sac,td3', 'seed': '0, 1',
                      'learner.hidden': '[64, 64],[32]', 'learner.discount': '0.9..0.99',
                      'learner.rate': 'log:1e-5..1e-2', 'learner.batch': '32..256'})
    assert plan.fixed == {'env': 'Pendulum-v1'}
    assert plan.choices == {'algorithm': ('sac', 'td3'), 'learner.hidden': ('[64, 64]', '[32]')}
    assert plan.ranges == {'learner.discount': Range(0.9, 0.99),
                           'learner.rate': Range(1e-5, 1e-2, True),
                           'learner.batch': Range(32, 256)}
    assert isinstance(plan.ranges['learner.batch'].low, int)
    assert plan.seeds == ('0', '1')
    assert len(plan.grid()) == 4
    first, second = plan.samples()
    assert first == {'env': 'Pendulum-v1', 'algorithm': 'sac', 'learner.hidden': '[64, 64]',
                     'seed': '0', 'learner.discount': '0.9', 'learner.rate': '1e-05',
                     'learner.batch': '32'}
    assert second['learner.batch'] == '256' and second['algorithm'] == 'td3'


def test_file_and_command_line(tmp_path):
    (tmp_path / 'sweep.yaml').write_text(
        'env: Pendulum-v1\nseed: [0, 1]\nsteps: 100\nlearner.hidden: [[64, 64], [32]]\n')
    plan = read_plan({'steps': '50', 'seed': '7,8'}, str(tmp_path / 'sweep.yaml'))
    assert plan.fixed == {'env': 'Pendulum-v1', 'steps': '50'}
    assert plan.choices == {'learner.hidden': ('[64, 64]', '[32]')}
    assert plan.seeds == ('7', '8')


@pytest.mark.parametrize('words, text', [
    ({'env': 'a'}, 'a sweep of one run'), ({'env': 'a', 'seed': '0,,1'}, 'a value is empty'),
    ({'env': 'a', 'seed': '0,0'}, 'occurs twice'), ({'seed': '0..9'}, 'one by one'),
    ({'run_dir': 'x'}, 'a sweep sets run_dir'),
    ({'learner.rate': '2..1'}, 'low < high'), ({'learner.rate': 'log:0..1'}, 'above 0'),
    ({'learner.rate': '1-1..2'}, 'no number')])
def test_mistakes_are_named(words, text):
    with pytest.raises(ConfigError, match=text):
        read_plan(words)


def test_a_folder_takes_more_values_but_no_other_sweep(tmp_path):
    plan = read_plan({'env': 'a', 'seed': '0,1', 'algorithm': 'sac,td3'})
    require_same_plan(plan, read_plan({'env': 'a', 'seed': '0,1,2', 'algorithm': 'sac,ppo'}),
                      tmp_path)
    with pytest.raises(ConfigError, match='env was a, is b'):
        require_same_plan(plan, read_plan({'env': 'b', 'seed': '0,1', 'algorithm': 'sac,td3'}),
                          tmp_path)
    with pytest.raises(ConfigError, match='varied were algorithm, are seeds only'):
        require_same_plan(plan, read_plan({'env': 'a', 'seed': '0,1'}), tmp_path)


def test_names_of_folders_are_short_and_distinct():
    assert run_name({'algorithm': 'sac', 'learner.discount': '0.9'}, '1') \
        == 'algorithm=sac_discount=0.9_seed=1'
    names = {run_name({'env': env}, '0') for env in ('rl_nodes/A', 'rl_nodes-A', 'x' * 300,
                                                     'x' * 301)}
    assert len(names) == 4 and all(len(name) < 150 and '/' not in name for name in names)
    assert run_name({'a.b': '1', 'c.b': '2'}, '0') == 'a.b=1_c.b=2_seed=0'
