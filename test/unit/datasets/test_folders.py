# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Folders of episodes: every bad file is named and none enters a data set; originals stay."""

import json
import struct

import msgspec
import numpy as np
import pytest
from recordings import record
from rl_nodes.cli import main
from rl_nodes.core.errors import ConfigError, RecordingError
from rl_nodes.data.inspection import inspect, open_episodes
from rl_nodes.data.mcap_format import MAX_CHUNK_BYTES, Opcode
from rl_nodes.data.reader import read_episode
from rl_nodes.data.rewriting import rewrite
from rl_nodes.datasets.folders import file_digest
from rl_nodes.nodes.recorded_transitions import read_recorded, read_transitions
import zstandard


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def bomb(data):
    """Return the file with a chunk that would become far larger than it says it may."""
    packed = zstandard.ZstdCompressor().compress(b'\0' * (MAX_CHUNK_BYTES + 1))
    body = struct.pack('<QQQI', 0, 0, MAX_CHUNK_BYTES + 1, 0) + struct.pack('<I', 4) + b'zstd' \
        + struct.pack('<Q', len(packed)) + packed
    return data[:8] + struct.pack('<BQ', Opcode.CHUNK, len(body)) + body + data[8:]


def lying(data):
    """Return the file with a small stated size around the same content."""
    packed = zstandard.ZstdCompressor().compress(b'\0' * (256 << 20))
    body = struct.pack('<QQQI', 0, 0, 100, 0) + struct.pack('<I', 4) + b'zstd' \
        + struct.pack('<Q', len(packed)) + packed
    return data[:8] + struct.pack('<BQ', Opcode.CHUNK, len(body)) + body + data[8:]


DAMAGES = {
    'truncated': (lambda data: data[:len(data) // 2], 'not a complete, undamaged episode'),
    'flipped': (lambda data: data[:900] + bytes([data[900] ^ 4]) + data[901:], 'CRC|states'),
    'empty': (lambda data: b'', 'starts with'),
    'other': (lambda data: b'not a recording', 'starts with'),
    'bomb': (bomb, 'uncompressed, expected at most'),
    'lying': (lying, 'CRC|states')}


@pytest.mark.parametrize('kind', DAMAGES)
def test_a_bad_file_is_named_and_enters_nothing(kind, episodes, tmp_path, capsys):
    change, message = DAMAGES[kind]
    bad = episodes / 'episode_000001.mcap'
    bad.write_bytes(change(bad.read_bytes()))
    assert main(['dataset', 'check', str(episodes)]) == 1
    lines = capsys.readouterr().out.splitlines()
    complaint, = [line for line in lines if line.startswith('BAD')]
    assert complaint.startswith(f'BAD   {bad}: ')
    assert any(part in complaint for part in message.split('|'))
    assert lines[-1] == '3 files, 1 of them cannot be used'
    for verb, *more in (('merge',), ('split', 'by:=success'), ('trim', 'end_step:=5'),
                        ('relabel',), ('export', 'format:=store'), ('report',)):
        output = [] if verb == 'report' else [f'output:={tmp_path / "new"}']
        assert main(['dataset', verb, str(episodes), *more, *output]) == 1
        assert str(bad) in capsys.readouterr().err
        assert not (tmp_path / 'new').exists()


def test_sound_files_pass(episodes, capsys):
    assert main(['dataset', 'check', str(episodes)]) == 0
    assert capsys.readouterr().out == '3 files, 0 of them cannot be used\n'
    assert main(['dataset', 'check', str(episodes), 'robot:=arm', 'task:=reach']) == 0
    assert main(['dataset', 'check', str(episodes), 'robot:=arm', 'task:=push']) == 1
    assert 'foreign contract (robot arm, task reach)' in capsys.readouterr().out
    with pytest.raises(RecordingError, match='holds no .mcap file'):
        inspect([episodes.parent / 'episodes' / '..'])


def test_a_foreign_contract_is_named(episodes, capsys):
    episode = read_episode(episodes / 'episode_000002.mcap')
    contract = msgspec.structs.replace(episode.contract, rate_hz=51.0)
    rewrite(episode, episodes / 'episode_000009.mcap', episode.messages(), {}, contract)
    assert main(['dataset', 'check', str(episodes)]) == 1
    bad, = [line for line in capsys.readouterr().out.splitlines() if line.startswith('BAD')]
    assert 'episode_000009.mcap: foreign contract' in bad and 'rate_hz' in bad
    with pytest.raises(RecordingError, match='episode_000009.mcap: foreign contract'):
        read_transitions([episodes])


def test_counts_gaps_and_lost_messages_are_compared(episodes):
    episode = read_episode(episodes / 'episode_000000.mcap')
    messages = list(episode.messages())
    states = [i for i, message in enumerate(messages) if message.topic == 'joint_states']
    rewrite(episode, episodes / 'a.mcap',
            [message for i, message in enumerate(messages) if i != states[4]], {})
    finding, = inspect([episodes / 'a.mcap'])
    assert not finding.faults
    assert any('1 gaps between states, the longest of 40 ms' in text for text in finding.notes)
    assert '1 messages were dropped while it was recorded' in finding.notes
    rewrite(episode, episodes / 'b.mcap', [], {})
    rewrite(episode, episodes / 'c.mcap', messages[::-1], {'stalled_cameras': '["wrist"]'})
    rewrite(episode, episodes / 'd.mcap', messages, {'reason': 'void', 'void': 'unplugged'})
    found = {finding.path.name: finding for finding in inspect([episodes])}
    assert 'has no message on joint_states' in found['b.mcap'].faults
    assert any('come after later ones' in text for text in found['c.mcap'].faults)
    assert 'camera wrist stalled' in found['c.mcap'].notes
    assert 'void, enters no data set: unplugged' in found['d.mcap'].notes
    opened, left_out = open_episodes([episodes / 'episode_000000.mcap', episodes / 'd.mcap'])
    assert len(opened) == 1 and 'd.mcap left out' in left_out[0]


def test_repair_keeps_the_original(episodes, capsys):
    whole = read_recorded_rows(episodes / 'episode_000001.mcap')
    bad, broken = episodes / 'episode_000001.mcap', episodes / 'episode_000002.mcap'
    data = bad.read_bytes()
    bad.write_bytes(data[:-400])
    hopeless = broken.read_bytes()[:40]
    broken.write_bytes(hopeless)
    killed = episodes / 'episode_000000.mcap'
    killed.rename(killed.with_name('episode_000000.mcap.partial'))
    assert main(['dataset', 'repair', str(episodes)]) == 1
    assert 'episode_000002.mcap: no message in it, kept as it is' in capsys.readouterr().out
    assert (episodes / 'episode_000001.mcap.damaged').read_bytes() == data[:-400]
    assert broken.read_bytes() == hopeless and killed.is_file()
    rows = read_recorded_rows(bad)
    assert rows.observation.tobytes() == whole.observation.tobytes()
    assert rows.truncated[-1]
    broken.unlink()
    assert main(['dataset', 'repair', str(episodes)]) == 0  # nothing is left to do
    assert main(['dataset', 'check', str(episodes)]) == 1
    assert '.damaged: is the damaged original' in capsys.readouterr().out


def read_recorded_rows(path):
    from rl_nodes.tasks import load_task
    return read_recorded(read_episode(path), load_task('arm', 'reach')).batch


def test_merge_numbers_anew_and_takes_nothing_twice(episodes, tmp_path, task, capsys):
    record(tmp_path / 'more', task, episodes=2, steps=5)
    before = contents(episodes)
    new = tmp_path / 'new'
    command = ['dataset', 'merge', str(episodes), str(tmp_path / 'more'),
               str(episodes / 'episode_000001.mcap'), f'output:={new}']
    assert main(command) == 0
    assert f'left out: the same as {episodes / "episode_000001.mcap"}' in capsys.readouterr().out
    assert [path.name for path in sorted(new.iterdir())] == [
        f'episode_{number:06d}.mcap' for number in range(5)]
    assert contents(episodes) == before
    assert file_digest(new / 'episode_000000.mcap') == file_digest(
        episodes / 'episode_000000.mcap')
    assert main(command) == 1 and 'has something in it' in capsys.readouterr().err
    assert main(['dataset', 'info', str(new)]) == 0
    text = capsys.readouterr().out
    assert 'episodes     5' in text and 'transitions  46 (5 to 12 an episode)' in text
    assert 'arm (5)' in text and 'reach@3 (5)' in text and 'numpy' in text


def test_what_the_monitor_decided_is_shown(episodes, tmp_path, capsys):
    episode = read_episode(sorted(episodes.iterdir())[0])
    for number, told in enumerate(('{"hold/age": 2, "clamp/velocity": 3}',
                                   '{"clamp/velocity": 4, "stop/risk": "many"}')):
        rewrite(episode, tmp_path / 'new' / f'{number}.mcap', episode.messages(),
                {'decisions': told})
    assert main(['dataset', 'info', str(tmp_path / 'new')]) == 0
    assert 'decisions    clamp/velocity (7), hold/age (2)' in capsys.readouterr().out


def test_split_is_reproducible_and_loses_nothing(episodes, tmp_path, capsys):
    for name in ('a', 'b'):
        assert main(['dataset', 'split', str(episodes), 'shares:=train=0.67,test=0.33', 'seed:=3',
                     f'output:={tmp_path / name}']) == 0
    assert contents(tmp_path / 'a' / 'train') == contents(tmp_path / 'b' / 'train')
    parts = [contents(tmp_path / 'a' / part) for part in ('train', 'test')]
    assert [len(part) for part in parts] == [2, 1]
    together = {data for part in parts for data in part.values()}
    assert together == set(contents(episodes).values())
    new = tmp_path / 'c'
    assert main(['dataset', 'split', str(episodes), 'by:=reason', f'output:={new}']) == 0
    assert {path.name for path in new.iterdir()} == {'reason_reset', 'reason_shutdown'}
    with pytest.raises(ConfigError, match='did you mean'):
        raise_of(['split', str(episodes), 'by:=reson', f'output:={tmp_path / "d"}'])
    with pytest.raises(ConfigError, match='sum to 1'):
        raise_of(['split', str(episodes), 'shares:=a=0.5', f'output:={tmp_path / "d"}'])


def raise_of(words):
    from rl_nodes.datasets.commands import DatasetOptions, run
    given = dict(word.split(':=') for word in words if ':=' in word)
    run(words[0], [word for word in words[1:] if ':=' not in word],
        DatasetOptions(**given), list(given))


def test_wrong_words_are_refused(episodes, capsys):
    for words, message in ((['sort', 'x'], "dataset 'sort'"), (['merge', 'outptu:=y'], 'output'),
                           (['info'], 'name files'), (['check', 'x', 'output:=y'], 'takes no'),
                           (['export', str(episodes), 'format:=lerobto', 'output:=x'], 'lerobot'),
                           (['trim', str(episodes), 'output:='], 'expected a new folder')):
        assert main(['dataset', *words]) == 2, words
        assert message in capsys.readouterr().err


@pytest.mark.parametrize('words', [('start_step:=3', 'end_step:=7'),
                                   ('start_s:=0.06', 'end_s:=0.14')])
def test_trim_keeps_what_it_keeps(words, episodes, tmp_path, task):
    before = contents(episodes)
    assert main(['dataset', 'trim', str(episodes), *words, f'output:={tmp_path / "new"}']) == 0
    assert contents(episodes) == before
    whole = read_recorded(read_episode(episodes / 'episode_000000.mcap'), task).batch
    episode = read_episode(tmp_path / 'new' / 'episode_000000.mcap')
    part = read_recorded(episode, task).batch
    np.testing.assert_array_equal(part.step, [3, 4, 5, 6])
    for name in ('observation', 'action', 'reward', 'next_observation', 'step'):
        assert getattr(part, name).tobytes() == getattr(whole, name)[3:7].tobytes()
    assert part.truncated.tolist() == [False, False, False, True]
    assert episode.metadata['steps'] == '4'
    assert float(episode.metadata['return_undiscounted']) == pytest.approx(
        whole.reward[3:7].sum(), rel=1e-5)
    assert json.loads(episode.metadata['trimmed_from'])['file'] == 'episode_000000.mcap'
    assert inspect([tmp_path / 'new'])[0].faults == ()


def test_trim_of_nothing_says_so(episodes, tmp_path, capsys):
    assert main(['dataset', 'trim', str(episodes), 'start_s:=9', f'output:={tmp_path / "n"}']) == 1
    assert '0 states from 9 s' in capsys.readouterr().err

