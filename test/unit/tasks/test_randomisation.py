# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a task draws for its episodes, and how difficulty narrows it."""

from pathlib import Path

import numpy as np
import pytest
from rl_nodes.core.config import convert, parse_yaml, read_yaml
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.resources import find_config
from rl_nodes.core.robot import load_robot
from rl_nodes.tasks import load_task
from rl_nodes.tasks.randomisation import Randomisation, Randomiser

EVERYTHING = """
mass_scale: [0.5, 2.0]
friction_scale: {log_uniform: [0.25, 4.0]}
strength_scale: {normal: [1.1, 0.1]}
damping_scale: [1.0, 3.0]
gravity_scale: [0.9, 1.1]
action_delay: [0.0, 2.0]
observation_delay: {normal: [1.0, 0.2]}
noise: {joint_velocity: [0.1, 0.2], base_orientation: [0.0, 0.05]}
pushes: {every_s: [1.0, 2.0], impulse_n_s: [1.0, 5.0], link: fl_shank_link}
"""


def section(text: str) -> Randomisation:
    return convert(parse_yaml(text, 'mine'), Randomisation, 'mine')


def values_of(text: str, difficulty: float, count: int = 4000) -> dict[str, np.ndarray]:
    """Return many draws of everything by name."""
    randomiser = Randomiser(section(text), load_robot('quadruped'))
    rng = np.random.default_rng(0)
    rows = [randomiser.draw(rng, difficulty).values for _ in range(count)]
    assert all(tuple(row) == randomiser.names for row in rows)
    return {name: np.array([row[name] for row in rows]) for name in randomiser.names}


def test_draws_fill_their_ranges_in_their_shapes() -> None:
    drawn = values_of(EVERYTHING, 1.0)
    assert len([name for name in drawn if name.startswith('mass_scale/')]) == 13
    mass = drawn['mass_scale/base_link']
    assert 0.5 <= mass.min() < 0.51 and 1.99 < mass.max() <= 2.0
    assert np.median(mass) == pytest.approx(1.25, abs=0.05)
    assert np.median(drawn['friction_scale']) == pytest.approx(1.0, rel=0.1), 'log-uniform'
    strength = drawn['strength_scale/fl_hip']
    assert np.mean(strength) == pytest.approx(1.1, abs=0.01)
    assert np.std(strength) == pytest.approx(0.1, rel=0.05)
    assert 0.799 < strength.min() and strength.max() < 1.401, 'cut at three standard deviations'
    assert not np.array_equal(strength, drawn['strength_scale/fl_knee'])
    assert 0.1 <= drawn['noise/joint_velocity'].min() <= drawn['noise/joint_velocity'].max() <= 0.2
    assert (drawn['difficulty'] == 1.0).all()
    assert (drawn['seed'] == drawn['seed'].round()).all() and len(set(drawn['seed'])) > 3990


@pytest.mark.parametrize('difficulty', [0.0, 0.25])
def test_difficulty_moves_every_draw_towards_its_nominal_value(difficulty: float) -> None:
    full, easy = values_of(EVERYTHING, 1.0, 50), values_of(EVERYTHING, difficulty, 50)
    for name, values in full.items():
        if name == 'difficulty':
            continue
        nominal = 1.0 if '_scale' in name else 0.0
        expected = values if name in ('seed', 'push/every_s', 'push/duration_s') else (
            (1 - difficulty) * nominal + difficulty * values)
        np.testing.assert_allclose(easy[name], expected, rtol=1e-12, err_msg=name)


def test_what_is_not_given_is_not_drawn() -> None:
    robot = load_robot('quadruped')
    rng = np.random.default_rng(1)
    friction = Randomiser(section('friction_scale: [0.5, 0.6]'), robot)
    variation = friction.draw(rng, 1.0)
    assert friction.names == ('difficulty', 'friction_scale')
    assert variation.disturbance is None and not friction.disturbs
    assert (variation.physics.mass == 1).all() and variation.physics.gravity == 1.0
    late = Randomiser(section('action_delay: [0.5, 0.5]'), robot)
    variation = late.draw(rng, 1.0)
    assert variation.physics is None and variation.disturbance.action_delay == 0.5


def test_the_record_says_what_is_applied() -> None:
    randomiser = Randomiser(section(EVERYTHING), load_robot('quadruped'))
    variation = randomiser.draw(np.random.default_rng(5), 1.0)
    values, physics, disturbance = variation.values, variation.physics, variation.disturbance
    assert physics.mass[0] == values['mass_scale/base_link']
    assert physics.mass[3] == values['mass_scale/fl_shank_link']
    assert physics.damping[3] == values['damping_scale/fr_hip']
    assert physics.strength[3] == values['strength_scale/fr_hip']
    assert disturbance.push.solid == 3
    assert disturbance.push.impulse_n_s == values['push/impulse_n_s']
    assert disturbance.noise == {'joint_velocity': values['noise/joint_velocity'],
                                 'base_orientation': values['noise/base_orientation']}
    assert disturbance.seed == values['seed']


@pytest.mark.parametrize(('text', 'message'), [
    ('mass_scale: [2.0, 1.0]', 'mass_scale: draws from 2 to 1; expected rising'),
    ('mass_scale: [0.0, 1.0]', 'mass_scale: draws from 0 to 1; expected .* from 0.05'),
    ('strength_scale: {normal: [1.0, 0.4]}', 'strength_scale: draws from -0.2 to 2.2'),
    ('friction_scale: {log_uniform: [0.0, 1.0]}', 'must lie above 0'),
    ('friction_scale: {log_uniform: [0.5, 1.0], normal: [1, 1]}', 'exactly one of'),
    ('friction_scale: {}', 'exactly one of'),
    ('gravity_scale: {normal: [1.0, -0.1]}', 'standard deviation -0.1'),
    ('action_delay: [0.0, 5.0]', 'action_delay: draws from 0 to 5; .* to 4'),
    ('noise: {joint_position: [-0.1, 0.1]}', 'joint_position: draws from -0.1'),
    ('noise: {joint_positon: [0, 1]}', "did you mean 'joint_position'"),
    ('pushes: {every_s: [0.1, 1.0], impulse_n_s: [0, 1], duration_s: [0.1, 0.2]}', 'not less'),
    ('mass_scal: [1, 1]', "did you mean 'mass_scale'"),
])
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        section(text)


@pytest.mark.parametrize(('robot', 'text', 'message'), [
    ('arm', 'noise: {base_position: [0, 1]}', 'arm has no floating base'),
    ('arm', 'pushes: {every_s: [1, 1], impulse_n_s: [0, 1], link: forarm}',
     "did you mean 'forearm'"),
    ('arm', 'pushes: {every_s: [1, 1], impulse_n_s: [0, 1], link: base_link}',
     'links that can be pushed: shoulder'),
])
def test_what_does_not_fit_the_robot_is_named(robot: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Randomiser(section(text), load_robot(robot))


# --- tasks ------------------------------------------------------------------------------------

def with_section(folder: Path, task: str, text: str) -> str:
    path = folder / f'{task}.yaml'
    path.write_text(find_config('tasks', task).read_text() + text)
    return str(path)


def test_a_task_without_the_sections_draws_what_it_always_drew() -> None:
    task = load_task('arm', 'reach')
    start, episode = (draw(np.random.default_rng(3)) for draw in (task.start, task.episode))
    assert start.position.tobytes() == episode.position.tobytes()
    assert start.goal.tobytes() == episode.goal.tobytes()
    assert episode.variation is None and task.variation_names == () and not task.disturbs


def test_a_variation_does_not_move_the_start_it_comes_with() -> None:
    plain, varied = (load_task('arm', name) for name in ('reach', 'reach_randomised'))
    one, other = (task.episode(np.random.default_rng(3)) for task in (plain, varied))
    assert one.position.tobytes() == other.position.tobytes()
    assert one.goal.tobytes() == other.goal.tobytes()
    assert other.variation.values['difficulty'] == 1.0
    assert plain.contract.observation == varied.contract.observation


def test_sections_leave_the_contract_alone(tmp_path: Path) -> None:
    more = with_section(tmp_path, 'reach', 'randomisation: {mass_scale: [0.5, 2]}\n'
                                           'curriculum: {start_noise_rad: 0.0}\n')
    assert load_task('arm', more).contract == load_task('arm', 'reach').contract


def test_a_curriculum_widens_the_start_with_difficulty(tmp_path: Path) -> None:
    task = load_task('quadruped', with_section(
        tmp_path, 'quadruped_walk', 'curriculum: {forward_m_s: [0.3, 0.3], start_tilt_rad: 0.0}'))

    def speeds(difficulty: float) -> np.ndarray:
        rng = np.random.default_rng(0)
        return np.array([task.episode(rng, difficulty).goal for _ in range(300)])
    low, high = read_yaml(find_config('tasks', 'quadruped_walk'))['forward_m_s']
    easy, half, full = (speeds(d) for d in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(easy[:, 0], 0.3)
    assert half[:, 0].min() >= (low + 0.3) / 2 and half[:, 0].max() <= (high + 0.3) / 2
    assert half[:, 0].max() - half[:, 0].min() > 0.9 * (high - low) / 2
    assert full[:, 0].min() < low + 0.02 and full[:, 0].max() > high - 0.02
    assert easy[:, 1].std() == pytest.approx(full[:, 1].std(), rel=0.2), 'not in the curriculum'
    rng = np.random.default_rng(0)
    start = task.episode(rng, 0.0)
    np.testing.assert_allclose(start.base.orientation, [0, 0, 0, 1])
    assert start.variation.values == {'difficulty': 0.0}
    assert task.variation_names == ('difficulty',) and not task.disturbs


def test_an_episode_is_a_pure_function_of_difficulty() -> None:
    task, other = load_task('arm', 'reach_randomised'), load_task('arm', 'reach_randomised')
    for difficulty in (0.3, 1.0, 0.3, 0.0, 0.7):
        task.episode(np.random.default_rng(1), difficulty)
    one, two = (each.episode(np.random.default_rng(9), 0.3) for each in (task, other))
    assert one.position.tobytes() == two.position.tobytes()
    assert one.goal.tobytes() == two.goal.tobytes()
    assert one.variation.values == two.variation.values


@pytest.mark.parametrize(('text', 'message'), [
    ('curriculum: {goal.radius: [0.2, 0.3]}', "did you mean 'goal.radius_m'"),
    ('curriculum: {tolerance_m: 0.1}', 'those of this task: goal.radius_m'),
    ('curriculum: {start_noise_rad: [0.0, 0.1]}', 'one number or'),
    ('curriculum: {goal.radius_m: 0.2}', 'one number or'),
    ('curriculum: {goal.azimuth_rad: [0.5, -0.5]}', 'azimuth_rad'),
    ('curriculum: {start_noise_rad: -0.1}', 'start_noise_rad'),
])
def test_a_wrong_curriculum_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task('arm', with_section(tmp_path, 'reach', text))
