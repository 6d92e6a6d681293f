# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Rewards computed anew, and the store that learners draw from."""

from dataclasses import replace
import shutil

import numpy as np
import pytest
from recordings import record, rollout
from rl_nodes.cli import main
from rl_nodes.core.errors import ConfigError, ContractError, RecordingError
from rl_nodes.core.origin import INTERVENTION, Origin
from rl_nodes.core.resources import find_config
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.reader import read_episode
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.data.rewriting import rewrite
from rl_nodes.data.transition_store import Draws, TransitionStore, write_store
from rl_nodes.nodes.recorded_transitions import read_recorded, read_transitions, task_of
from rl_nodes.nodes.transition_feed import TransitionFeed
from rl_nodes.tasks import load_task


def messages(path):
    return [tuple(message) for message in read_episode(path).messages()]


def test_relabelling_with_the_same_code_changes_no_bit(episodes, tmp_path, capsys):
    assert main(['dataset', 'relabel', str(episodes), f'output:={tmp_path / "new"}']) == 0
    assert capsys.readouterr().out.count(': 0 rewards changed') == 3
    for path in sorted(episodes.iterdir()):
        new = tmp_path / 'new' / path.name
        assert messages(new) == messages(path)
        before, after = read_episode(path).metadata, read_episode(new).metadata
        assert {**before, 'relabelled_from': path.name} == after


def test_other_rewards_make_other_transitions_of_the_same_steps(episodes, tmp_path, task):
    text = find_config('tasks', 'reach').read_text()
    assert 'episode_s: ' in text
    short = [('episode_s: 0.1' if line.startswith('episode_s:') else line)
             for line in text.splitlines()]
    folder = tmp_path / 'tasks'
    folder.mkdir()
    (folder / 'reach.yaml').write_text('\n'.join(short))
    assert main(['dataset', 'relabel', str(episodes), f'task:={folder / "reach.yaml"}',
                 f'output:={tmp_path / "new"}']) == 0
    other = load_task('arm', str(folder / 'reach.yaml'))
    path = episodes / 'episode_000000.mcap'
    whole = read_recorded(read_episode(path), task).batch
    part = read_recorded(read_episode(tmp_path / 'new' / path.name), other).batch
    assert (len(whole), len(part)) == (12, 5)  # 0.1 s of 50 Hz
    assert part.truncated.tolist() == [False] * 4 + [True]
    assert part.observation.tobytes() == whole.observation[:5].tobytes()
    metadata = read_episode(tmp_path / 'new' / path.name).metadata
    assert (metadata['reason'], metadata['steps']) == ('truncated', '5')


def test_demonstrations_without_rewards_get_them(tmp_path, task):
    path, = record(tmp_path / 'shown', task, episodes=1, who=('teleop',))
    episode = read_episode(path)
    bare = rewrite(episode, tmp_path / 'bare' / path.name,
                   [m for m in episode.messages() if m.topic != 'reward'], {})
    assert len(read_recorded(read_episode(bare), task)) == 0
    assert main(['dataset', 'relabel', str(bare), f'output:={tmp_path / "new"}']) == 0
    found = read_recorded(read_episode(tmp_path / 'new' / path.name), task)
    wanted = read_recorded(episode, task)
    for name, values in wanted.columns().items():
        assert found.columns()[name].tobytes() == values.tobytes(), name
    assert (found.batch.origin == Origin.DEMONSTRATION).all()


def test_a_faster_simulation_is_read_at_its_pace(tmp_path, capsys):
    fast = load_task('arm', 'reach')
    fast.period_ns //= 4
    path, = record(tmp_path / 'fast', fast, episodes=1, stepping='realtime', factor=4.0)
    episode = read_episode(path)
    assert episode.period_ns == 5_000_000
    found = read_recorded(episode, task_of(episode)).batch
    assert found.step.tolist() == list(range(12)) and not found.truncated[:-1].any()
    assert main(['dataset', 'relabel', str(path), f'output:={tmp_path / "new"}']) == 0
    assert ': 0 rewards changed' in capsys.readouterr().out
    assert main(['dataset', 'check', str(path)]) == 0
    assert 'gaps' not in capsys.readouterr().out
    batch, contract = read_transitions([path])
    assert batch.reward.tobytes() == found.reward.tobytes() and contract == fast.contract


def test_messages_without_a_header_belong_where_they_lie(episodes, tmp_path, capsys):
    path = episodes / 'episode_000000.mcap'
    kept, states = [], 0
    for message in read_episode(path).messages():
        kept.append(message)
        if message.topic == 'joint_states':
            kept.append(message._replace(topic='button', type_name='std_msgs/msg/Bool',
                                         data=bytes([0, 1, 0, 0, states % 2]), sequence=states))
            states += 1
    wider = rewrite(read_episode(path), tmp_path / 'wider' / path.name, kept, {})
    for what in ('relabel', 'report', 'trim'):
        more = ('start_s:=0.04', 'end_s:=0.08') if what == 'trim' else ()
        output = tmp_path / what / ('new.html' if what == 'report' else '')
        assert main(['dataset', what, str(wider), f'output:={output}', *more]) == 0
    assert len(list(read_episode(tmp_path / 'relabel' / path.name).messages(('button',)))) == 13
    pressed = [m.sequence for m in read_episode(tmp_path / 'trim' / path.name).messages(
        ('button',))]
    assert pressed == [2, 3, 4]


def test_what_a_person_said_of_an_episode_outlasts_new_rewards(episodes, tmp_path):
    episode = read_episode(sorted(episodes.iterdir())[0])
    said = 'true' if episode.metadata['success'] == 'false' else 'false'
    judged = rewrite(episode, tmp_path / 'judged' / episode.path.name, episode.messages(),
                     {'success': said, 'judge': 'operator'})
    assert main(['dataset', 'relabel', str(judged), f'output:={tmp_path / "new"}']) == 0
    after = read_episode(tmp_path / 'new' / judged.name).metadata
    assert (after['success'], after['judge']) == (said, 'operator')


def test_who_acted_is_known(tmp_path, task):
    path, = record(tmp_path, task, episodes=1, who=('reach@3', 'teleop', 'teleop'))
    found = read_recorded(read_episode(path), task)
    np.testing.assert_array_equal(
        found.batch.origin == Origin.DEMONSTRATION, np.arange(12) % 3 > 0)
    np.testing.assert_array_equal(found.batch.policy_version, np.where(np.arange(12) % 3, -1, 3))


def test_a_recording_has_the_origins_and_intentions_of_its_making(tmp_path, task):
    who = ('reach@3', 'teleop:anna', 'teleop:anna/perturbed', 'teleop:anna/standby')
    changed = {0: 'clamp/velocity', 5: 'clamp/geometry'}
    path, = record(tmp_path, task, episodes=1, who=who, changed=changed)
    found = read_recorded(read_episode(path), task)
    feed = TransitionFeed(task)
    for topic, _, data in rollout(task, 1, seed=1, who=who, changed=changed):
        if topic in feed.kinds:
            feed.add(topic, data)
    feed.assembler.flush()
    live = feed.assembler.take()
    for name, values in live.columns().items():
        assert found.batch.columns()[name].tobytes() == values.tobytes(), name
    np.testing.assert_array_equal(found.batch.origin, [
        Origin.AUTONOMOUS, Origin.DEMONSTRATION, Origin.DEMONSTRATION, Origin.NOBODY] * 3)
    np.testing.assert_array_equal(
        np.flatnonzero(found.batch.limited), [0, 2, 5, 6, 10])  # noise, too
    assert [changed.get(step, '').encode() for step in range(12)] == \
        found.batch.intervention.tolist()
    assert (found.batch.wanted != found.batch.action).any(axis=1)[2::4].all()


def made(name, steps, first, ended=True, origin=Origin.AUTONOMOUS):
    """Return an episode whose values tell which row they are of."""
    count = len(steps)
    index = first + np.arange(count)
    flags = np.zeros(count, bool)
    last = flags.copy()
    last[-1] = ended
    vector = np.stack([index, index], 1).astype(np.float32)
    return RecordedEpisode(name, TransitionBatch(
        vector, vector[:, :1], vector[:, :1], index.astype(np.float32), vector + 0.5, last, flags,
        flags, flags, index, index, np.array(steps), origin=np.full(count, int(origin)),
        intervention=np.array([b'', b'clamp/position'] * count, INTERVENTION)[:count]),
        index * 10, {'reason': 'terminated'})


@pytest.fixture
def store(tmp_path):
    assert write_store(tmp_path / 'store', None, [
        made('a', [0, 1, 2, 3], 0),
        made('b', [0, 1, 4, 5], 4, ended=False, origin=Origin.DEMONSTRATION)]) == 8
    return TransitionStore(tmp_path / 'store')


def test_a_store_gives_back_what_it_got(store):
    assert len(store) == 8 and store.contract is None
    first, second = store.episodes()
    assert (first.name, first.metadata) == ('a', {'reason': 'terminated'})
    for name, values in made('b', [0, 1, 4, 5], 4, ended=False,
                             origin=Origin.DEMONSTRATION).columns().items():
        if name != 'episode':
            np.testing.assert_array_equal(second.columns()[name], values)
            assert second.columns()[name].dtype == values.dtype
    assert second.batch.episode.tolist() == [1] * 4
    assert isinstance(store.columns['observation'].base, np.memmap)
    assert store.batch(np.array([5, 0])).reward.tolist() == [5.0, 0.0]


def test_steps_are_put_together_within_unbroken_runs(store):
    found = store.n_step(np.arange(8), 3, 0.5)
    np.testing.assert_allclose(found.reward, [
        0 + 0.5 + 0.5, 1 + 1 + 0.75, 2 + 1.5, 3,     # the episode ends after row 3
        4 + 2.5, 5, 6 + 3.5, 7])                     # steps 2 and 3 are missing after row 5
    assert found.next_observation[:, 0].tolist() == [2.5, 3.5, 3.5, 3.5, 5.5, 5.5, 7.5, 7.5]
    assert found.terminated.tolist() == [False, True, True, True] + [False] * 4
    assert found.discount.tolist() == [0.125, 0.125, 0.25, 0.5, 0.25, 0.5, 0.25, 0.5]


def test_windows_are_masked_where_a_run_ends(store):
    found = store.windows(np.array([0, 2, 5]), 3, ('observation', 'reward'))
    assert found.columns['reward'].tolist() == [[0, 1, 2], [2, 3, 3], [5, 5, 5]]
    assert found.columns['observation'].shape == (3, 3, 2)
    assert found.mask.tolist() == [[True] * 3, [True, True, False], [True, False, False]]


def test_draws_depend_on_seed_and_number_only(store):
    draws, again = Draws(store, 64, seed=5), Draws(store, 64, seed=5)
    for number in (0, 1, 1 << 40):
        np.testing.assert_array_equal(draws.rows(number), again.rows(number))
    assert not np.array_equal(draws.rows(0), draws.rows(1))
    assert not np.array_equal(draws.rows(0), Draws(store, 64, seed=6).rows(0))
    assert set(draws.rows(0).tolist()) == set(range(8))
    epochs = [np.concatenate(list(Draws(store, 3, seed=5).epoch(number))) for number in (0, 1)]
    assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(8))] * 2
    assert epochs[0].tolist() != epochs[1].tolist()


def test_origins_get_their_share(store, tmp_path):
    draws = Draws(store, 1000, seed=1, shares={'autonomous': 0.2, 'demonstration': 0.8})
    rows = draws.rows(0)
    assert (rows >= 4).mean() == pytest.approx(0.8, abs=0.04)
    assert np.bincount(rows, minlength=8).min() > 20
    with pytest.raises(ConfigError, match='no row of intervention'):
        Draws(store, 4, 0, {'intervention': 0.5, 'autonomous': 0.5})
    for shares in ({'autonomous': 0.5}, {'robot': 1.0}):
        with pytest.raises(ConfigError, match='sum to 1'):
            Draws(store, 4, 0, shares)
    unknown = made('c', [0, 1], 0)
    unknown = replace(unknown, batch=replace(unknown.batch, origin=None))
    write_store(tmp_path / 'unknown', None, [unknown])
    with pytest.raises(ConfigError, match='nobody noted who acted'):
        Draws(TransitionStore(tmp_path / 'unknown'), 4, 0, {'autonomous': 1.0})


def test_damaged_and_foreign_stores_are_refused(store, tmp_path, task):
    def copy(name):
        return shutil.copytree(store.folder, tmp_path / name)

    with pytest.raises(ContractError, match='observation has shape'):
        TransitionStore(store.folder, task.contract)
    (folder := copy('short')).joinpath('reward.bin').write_bytes(b'1234')
    with pytest.raises(RecordingError, match='reward.bin has 4 bytes, expected 32'):
        TransitionStore(folder)
    data = bytearray((folder := copy('flip')).joinpath('action.bin').read_bytes())
    data[3] ^= 1
    folder.joinpath('action.bin').write_bytes(data)
    with pytest.raises(RecordingError, match=r'action.bin is damaged'):
        TransitionStore(folder)
    index = (folder := copy('path')).joinpath('store.json')
    index.write_text(index.read_text().replace('"reward"', '"../reward"'))
    with pytest.raises(RecordingError, match="column '../reward'"):
        TransitionStore(folder)
    index = (folder := copy('old')).joinpath('store.json')
    index.write_text(index.read_text().replace('transition_store/v2', 'transition_store/v1'))
    with pytest.raises(RecordingError, match=r'transition_store/v1.*dataset export FOLDER'):
        TransitionStore(folder)
    index.write_text('{"layout": 3}')
    with pytest.raises(RecordingError, match='is damaged'):
        TransitionStore(folder)
    with pytest.raises(RecordingError, match='no transition store'):
        TransitionStore(tmp_path)
    with pytest.raises(RecordingError, match='exists already'):
        write_store(store.folder, None, [])
    wide = replace(made('c', [0], 0), batch=replace(
        made('c', [0], 0).batch, action=np.zeros((1, 3), np.float32)))
    with pytest.raises(RecordingError, match='c has the columns'):
        write_store(tmp_path / 'mixed', None, [made('a', [0], 0), wide])
    assert not (tmp_path / 'mixed').exists() and not list(tmp_path.glob('.*'))


def test_recordings_go_to_a_store_that_names_their_contract(episodes, tmp_path, task):
    assert main(['dataset', 'export', str(episodes), 'format:=store',
                 f'output:={tmp_path / "s"}']) == 0
    found = TransitionStore(tmp_path / 's', task.contract)
    assert len(found) == 36 and found.contract == task.contract
    for path, episode in zip(sorted(episodes.iterdir()), found.episodes()):
        wanted = read_recorded(read_episode(path), task)
        for name, values in wanted.columns().items():
            if name != 'episode':
                assert episode.columns()[name].tobytes() == values.tobytes(), name
    with pytest.raises(ContractError):
        TransitionStore(tmp_path / 's', load_task('cartpole', 'cartpole_balance').contract)
