# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Each exported form is read back, by the library whose form it is where that is installed.

The packages of the extra ``datasets`` are needed; a form whose packages are missing is skipped.
"""

import json

import msgspec
import numpy as np
import pytest
from recordings import record
from rl_nodes.cli import main
from rl_nodes.core.cameras import CameraSensorConfig
from rl_nodes.core.errors import ConfigError
from rl_nodes.data.reader import read_episode
from rl_nodes.data.rewriting import rewrite
from rl_nodes.data.transition_store import TransitionStore
from rl_nodes.datasets.formats import find_format
from rl_nodes.nodes.pictures import recorded_pictures
from rl_nodes.nodes.recorded_transitions import read_recorded

LABELS = ['', '', 'clamp/velocity', *[''] * 9]  # of each episode, see conftest.py
CAMERA = CameraSensorConfig(name='wrist', link='tool', width=32, height=24)


def export(folder, form, output):
    assert main(['dataset', 'export', str(folder), f'format:={form}', f'output:={output}']) == 0
    return output


@pytest.fixture
def wanted(episodes, task):
    return [read_recorded(read_episode(path), task) for path in sorted(episodes.iterdir())]


def assert_same(store, wanted):
    found = list(TransitionStore(store).episodes())
    assert [len(episode) for episode in found] == [len(episode) for episode in wanted]
    for ours, theirs in zip(found, wanted):
        assert ours.metadata == theirs.metadata and ours.name == theirs.name
        for name, values in theirs.columns().items():
            if name != 'episode':
                assert ours.columns()[name].tobytes() == values.tobytes(), name


def test_npz_has_what_learners_need(episodes, tmp_path, wanted, task):
    with np.load(export(episodes, 'npz', tmp_path / 'shown.npz')) as file:
        assert str(file['contract_fingerprint']) == task.contract.fingerprint()
        for name, values in wanted[0].batch.columns().items():
            if name != 'episode':
                assert file[name][:12].tobytes() == values.tobytes()
        assert file['episode'].tolist() == [0] * 12 + [1] * 12 + [2] * 12


def test_parquet_is_a_row_per_transition(episodes, tmp_path, wanted, task):
    parquet = pytest.importorskip('pyarrow.parquet')
    table = parquet.read_table(export(episodes, 'parquet', tmp_path / 'shown.parquet'))
    assert len(table) == 36
    stamps = np.concatenate([episode.stamp_ns for episode in wanted])
    assert table['stamp_ns'].to_numpy().tobytes() == stamps.tobytes()
    found = np.array(table['observation'].to_pylist(), np.float32)
    assert found.tobytes() == np.concatenate(
        [episode.batch.observation for episode in wanted]).tobytes()
    assert set(table['origin'].to_pylist()) == {'autonomous'}
    assert table['intervention'].to_pylist() == LABELS * 3
    assert table['file'][13].as_py() == 'episode_000001.mcap'
    metadata = parquet.read_metadata(tmp_path / 'shown.parquet').metadata
    noted = json.loads(metadata[b'rl_nodes_episode'])
    assert noted['episode_000000.mcap']['seed'] == '7'


def test_robomimic_layout(episodes, tmp_path, wanted):
    h5py = pytest.importorskip('h5py')
    path = export(episodes, 'robomimic', tmp_path / 'shown.hdf5')
    with h5py.File(path) as file:
        assert file['data'].attrs['total'] == 36
        assert [name.decode() for name in file['mask/train'][:]] == sorted(file['data'])
        demo, batch = file['data/demo_1'], wanted[1].batch
        assert demo.attrs['num_samples'] == 12
        for name, values in (('actions', batch.action), ('rewards', batch.reward),
                             ('obs/observation', batch.observation),
                             ('next_obs/observation', batch.next_observation),
                             ('rl_nodes/stamp_ns', wanted[1].stamp_ns),
                             ('rl_nodes/origin', batch.origin),
                             ('rl_nodes/intervention', batch.intervention)):
            assert demo[name][:].tobytes() == values.tobytes(), name
        assert demo['dones'][:].tolist() == [0] * 11 + [1]
        assert json.loads(file['data'].attrs['env_args'])['env_name'] == 'reach'


def test_robomimic_itself_reads_it(episodes, tmp_path, wanted):
    pytest.importorskip('h5py')
    dataset = pytest.importorskip('robomimic.utils.dataset', exc_type=ImportError)
    from robomimic.utils import obs_utils
    path = export(episodes, 'robomimic', tmp_path / 'shown.hdf5')
    obs_utils.initialize_obs_utils_with_obs_specs(
        {'obs': {'low_dim': ['observation'], 'rgb': [], 'depth': [], 'scan': []}})
    sequences = dataset.SequenceDataset(
        str(path), obs_keys=('observation',), dataset_keys=('actions', 'rewards', 'dones'),
        frame_stack=1, seq_length=4, filter_by_attribute='train', load_next_obs=True,
        hdf5_cache_mode='all')
    assert len(sequences) == 36
    found, batch = sequences[5], wanted[0].batch
    np.testing.assert_array_equal(found['actions'], batch.action[5:9])
    np.testing.assert_array_equal(found['obs']['observation'], batch.observation[5:9])
    np.testing.assert_array_equal(found['next_obs']['observation'], batch.next_observation[5:9])


def test_minari_itself_reads_it_and_so_do_we(episodes, tmp_path, wanted, task, capsys):
    minari = pytest.importorskip('minari')
    pytest.importorskip('h5py')
    path = export(episodes, 'minari', tmp_path / 'reach-v0')
    dataset = minari.MinariDataset(path / 'data')
    assert (dataset.total_episodes, dataset.total_steps) == (3, 36)
    assert dataset.observation_space.shape == task.contract.observation.shape
    episode = dataset[2]
    batch = wanted[2].batch
    assert episode.observations[:-1].tobytes() == batch.observation.tobytes()
    assert episode.observations[-1].tobytes() == batch.next_observation[-1].tobytes()
    assert episode.actions.tobytes() == batch.action.tobytes()
    np.testing.assert_array_equal(episode.rewards, batch.reward)
    assert episode.truncations.tolist() == [False] * 11 + [True]
    assert main(['dataset', 'import', str(path), 'format:=minari', 'robot:=arm', 'task:=reach',
                 f'output:={tmp_path / "store"}']) == 0
    assert_same(tmp_path / 'store', wanted)
    assert TransitionStore(tmp_path / 'store', task.contract).contract == task.contract


def test_minari_knows_no_gaps(episodes, tmp_path, task):
    minari = pytest.importorskip('minari')
    episode = read_episode(episodes / 'episode_000000.mcap')
    messages = list(episode.messages())
    states = [i for i, message in enumerate(messages) if message.topic == 'joint_states']
    rewrite(episode, tmp_path / 'gap' / 'episode_000000.mcap',
            [message for i, message in enumerate(messages) if i != states[4]], {})
    dataset = minari.MinariDataset(export(tmp_path / 'gap', 'minari', tmp_path / 'g-v0') / 'data')
    assert [len(episode) for episode in dataset.iterate_episodes()] == [3, 7]
    assert [episode.truncations[-1] for episode in dataset.iterate_episodes()] == [True, True]


def test_foreign_minari_data_are_taken_as_far_as_they_go(tmp_path, capsys):
    minari = pytest.importorskip('minari')
    pytest.importorskip('h5py')
    import gymnasium
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage
    box = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def make(name, space, observations):
        (tmp_path / name).mkdir()
        storage = MinariStorage.new(tmp_path / name / 'data', observation_space=space,
                                    action_space=box, data_format='hdf5')
        storage.update_metadata({'dataset_id': name, 'minari_version': minari.__version__})
        storage.update_episodes([EpisodeBuffer(
            id=0, observations=observations, actions=np.zeros((3, 2), np.float32),
            rewards=[1.0, 2.0, 3.0], terminations=[False, False, True],
            truncations=[False] * 3)])
        return str(tmp_path / name)

    foreign = make('foreign-v0', box, np.arange(8, dtype=np.float32).reshape(4, 2) / 8)
    command = ['dataset', 'import', foreign, 'format:=minari', f'output:={tmp_path / "s"}']
    assert main(command) == 0
    assert 'names no contract' in capsys.readouterr().out
    batch = TransitionStore(tmp_path / 's').batch(slice(None))
    assert batch.reward.tolist() == [1, 2, 3] and batch.terminated.tolist() == [False, False, True]
    assert batch.next_observation[:, 0].tolist() == [0.25, 0.5, 0.75]
    assert main([*command[:-1], f'output:={tmp_path / "t"}', 'robot:=arm', 'task:=reach']) == 2
    assert 'observation has shape (2,)' in capsys.readouterr().err
    assert main([*command[:-1], f'output:={tmp_path / "t.npz"}']) == 0
    bad = make('bad-v0', box, np.full((4, 2), np.nan, np.float32))
    assert main(['dataset', 'import', bad, 'format:=minari', f'output:={tmp_path / "u"}']) == 1
    assert 'finite' in capsys.readouterr().err
    assert main(['dataset', 'import', str(tmp_path), 'format:=minari', 'output:=x']) == 1


def test_pictures_are_the_same_however_they_were_kept(tmp_path, task):
    found = []
    for quality in (0, 95):
        path = tmp_path / str(quality)
        record(path, task, episodes=1, camera=CAMERA, quality=quality)
        found.append([*recorded_pictures(read_episode(next(path.glob('*.mcap'))))['wrist']])
    assert len(found[0]) == 5
    for (stamp, raw), (same, compressed) in zip(*found, strict=True):
        assert stamp == same
        np.testing.assert_allclose(compressed.astype(int), raw, atol=2)


@pytest.fixture
def pictured(tmp_path, task):
    record(tmp_path / 'pictured', task, episodes=2, camera=CAMERA)
    return tmp_path / 'pictured'


def test_lerobot_round_trip(episodes, tmp_path, wanted, task, capsys):
    parquet = pytest.importorskip('pyarrow.parquet')
    pytest.importorskip('av')
    path = export(episodes, 'lerobot', tmp_path / 'reach')
    info = json.loads((path / 'meta/info.json').read_text())
    assert (info['codebase_version'], info['fps']) == ('v3.0', 50)
    assert (info['total_episodes'], info['total_frames'], info['video_path']) == (3, 36, None)
    table = parquet.read_table(path / 'data/chunk-000/file-000.parquet')
    assert table['complementary_info.stamp_ns'].to_numpy().tobytes() == np.concatenate(
        [episode.stamp_ns for episode in wanted]).tobytes()
    assert table['complementary_info.intervention'].to_pylist() == LABELS * 3
    assert info['features']['complementary_info.intervention'] == {
        'dtype': 'string', 'shape': [1], 'names': None}
    np.testing.assert_allclose(table['timestamp'].to_numpy()[12:15], [0, 0.02, 0.04])
    stats = json.loads((path / 'meta/stats.json').read_text())
    action = np.concatenate([episode.batch.action for episode in wanted])
    np.testing.assert_allclose(stats['action']['mean'], action.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats['action']['std'], action.std(0), atol=1e-6)
    assert main(['dataset', 'import', str(path), 'format:=lerobot',
                 f'output:={tmp_path / "store"}']) == 0
    assert_same(tmp_path / 'store', wanted)


GOLDEN = {  # of a data set that lerobot 0.4 wrote: type by column
    'timestamp': 'float', 'frame_index': 'int64', 'episode_index': 'int64', 'index': 'int64',
    'task_index': 'int64'}


def test_lerobot_files_have_the_types_that_lerobot_gives_them(episodes, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    pytest.importorskip('av')
    path = export(episodes, 'lerobot', tmp_path / 'reach')
    schema = parquet.read_schema(path / 'data/chunk-000/file-000.parquet')
    assert {name: str(schema.field(name).type) for name in GOLDEN} == GOLDEN
    assert str(schema.field('observation.state').type).startswith('fixed_size_list')
    tasks = parquet.read_table(path / 'meta/tasks.parquet')
    assert tasks.column_names == ['task_index', '__index_level_0__']
    assert json.loads(tasks.schema.metadata[b'pandas'])['index_columns'] == ['__index_level_0__']
    rows = parquet.read_table(path / 'meta/episodes/chunk-000/file-000.parquet').to_pylist()
    assert [(row['dataset_from_index'], row['dataset_to_index']) for row in rows] == [
        (0, 12), (12, 24), (24, 36)]
    assert rows[0]['tasks'] == ['reach'] and rows[2]['stats/action/count'] == [12]


def test_lerobot_videos_show_the_newest_picture_of_each_row(pictured, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    av = pytest.importorskip('av')
    path = export(pictured, 'lerobot', tmp_path / 'reach')
    with av.open(str(path / 'videos/observation.images.wrist/chunk-000/file-000.mp4')) as video:
        frames = [frame.to_ndarray(format='rgb24') for frame in video.decode(video=0)]
    assert len(frames) == 24 and frames[0].shape == (24, 32, 3)
    shown = [round(float(frame.mean()) / 20) for frame in frames]
    assert shown[:12] == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9, 9] and shown[12:] == shown[:12]
    table = parquet.read_table(path / 'data/chunk-000/file-000.parquet')
    late = (table['complementary_info.stamp_ns'].to_numpy()
            - table['complementary_info.wrist_stamp_ns'].to_numpy())
    assert (late[:12] // 20_000_000).tolist() == [0, 1, 2] * 4
    row = parquet.read_table(path / 'meta/episodes/chunk-000/file-000.parquet').to_pylist()[1]
    assert row['videos/observation.images.wrist/from_timestamp'] == pytest.approx(12 / 50)


def test_lerobot_itself_reads_it(pictured, tmp_path, task):
    pytest.importorskip('av')
    module = pytest.importorskip('lerobot.datasets.lerobot_dataset', exc_type=ImportError)
    path = export(pictured, 'lerobot', tmp_path / 'reach')
    dataset = module.LeRobotDataset('rl_nodes/reach', root=path, video_backend='pyav',
                                    delta_timestamps={'action': [0.0, 0.02]})
    wanted = read_recorded(read_episode(sorted(pictured.iterdir())[1]), task)
    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (2, 24, 50)
    item = dataset[12 + 4]
    np.testing.assert_array_equal(item['observation.state'], wanted.batch.observation[4])
    np.testing.assert_array_equal(item['action'], wanted.batch.action[4:6])
    assert int(item['complementary_info.stamp_ns']) == wanted.stamp_ns[4]
    assert item['task'] == 'reach'
    assert item['complementary_info.intervention'] == ''
    assert float(item['observation.images.wrist'].mean()) == pytest.approx(60 / 255, abs=0.02)
    assert dataset.meta.stats['action']['mean'].shape == (6,)


def test_pictures_of_some_episodes_only_are_named(pictured, task, tmp_path, capsys):
    pytest.importorskip('pyarrow')
    pytest.importorskip('av')
    path = sorted(pictured.iterdir())[1]
    episode = read_episode(path)
    messages = [message for message in episode.messages() if 'camera' not in message.topic]
    path.unlink()
    rewrite(episode, path, messages, {})
    command = ['dataset', 'export', str(pictured), 'format:=lerobot', f'output:={tmp_path / "n"}']
    assert main(command) == 1
    assert 'episode_000001.mcap has pictures of no camera' in capsys.readouterr().err
    assert not (tmp_path / 'n').exists()
    assert main([*command, 'pictures:=false']) == 0


def test_foreign_lerobot_data_are_taken_as_far_as_they_go(episodes, tmp_path, caplog):
    parquet = pytest.importorskip('pyarrow.parquet')
    pytest.importorskip('av')
    path = export(episodes, 'lerobot', tmp_path / 'reach')
    file = path / 'data/chunk-000/file-000.parquet'
    keep = ['observation.state', 'action', 'timestamp', 'frame_index', 'episode_index', 'index']
    table = parquet.read_table(file).select(keep)
    parquet.write_table(table.slice(0, 20), file)  # an episode goes on in the next file
    parquet.write_table(table.slice(20), path / 'data/chunk-000/file-001.parquet')
    info = json.loads((path / 'meta/info.json').read_text())
    del info['rl_nodes_contract'], info['features']['next.reward']
    (path / 'meta/info.json').write_text(json.dumps(info))
    (path / 'meta/episodes/chunk-000/file-000.parquet').unlink()
    assert main(['dataset', 'import', str(path), 'format:=lerobot',
                 f'output:={tmp_path / "store"}']) == 0
    assert 'has no next.reward: all rewards are zero' in caplog.text
    found = list(TransitionStore(tmp_path / 'store').episodes())
    assert [len(episode) for episode in found] == [11, 11, 11]  # the last frame leads nowhere
    assert found[1].batch.truncated.tolist() == [False] * 10 + [True]
    assert not found[1].batch.reward.any() and not found[1].batch.terminated.any()
    np.testing.assert_array_equal(found[1].batch.next_observation[:-1],
                                  found[1].batch.observation[1:])


@pytest.mark.parametrize(('damage', 'message'), [
    (lambda path: (path / 'meta/info.json').unlink(), 'no LeRobotDataset'),
    (lambda path: (path / 'meta/info.json').write_text('{"codebase_version": "v2.1", "fps": 5}'),
     'v2.1, expected v3.0'),
    (lambda path: (path / 'data/chunk-000/file-000.parquet').write_bytes(b'PAR1 no'),
     'cannot be read'),
    (lambda path: (path / 'data/chunk-000/file-000.parquet').unlink(), 'has no data')])
def test_damaged_lerobot_data_are_refused(damage, message, episodes, tmp_path, capsys):
    pytest.importorskip('pyarrow')
    pytest.importorskip('av')
    path = export(episodes, 'lerobot', tmp_path / 'reach')
    damage(path)
    assert main(['dataset', 'import', str(path), 'format:=lerobot',
                 f'output:={tmp_path / "s"}']) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / 's').exists()


def test_a_foreign_contract_is_not_imported(episodes, tmp_path, capsys):
    assert main(['dataset', 'import', str(export(episodes, 'store', tmp_path / 's')),
                 'format:=store', 'robot:=cartpole', 'task:=cartpole_balance',
                 f'output:={tmp_path / "t"}']) == 2
    assert 'does not fit' in capsys.readouterr().err


def test_what_is_missing_is_named(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(ConfigError, match=r'needs h5py.*rl_nodes\[datasets\]'):
        find_format('robomimic')
    with pytest.raises(ConfigError, match='expected one of store, lerobot, minari'):
        find_format('npz', reading=True)


def test_a_contract_that_has_changed_since_is_refused(episodes, tmp_path, capsys):
    for path in sorted(episodes.iterdir()):
        episode = read_episode(path)
        messages = list(episode.messages())
        path.unlink()
        rewrite(episode, path, messages, {}, msgspec.structs.replace(
            episode.contract, action_kind='another'))
    assert main(['dataset', 'export', str(episodes), 'format:=store',
                 f'output:={tmp_path / "s"}']) == 2
    assert 'does not fit the present configuration' in capsys.readouterr().err
