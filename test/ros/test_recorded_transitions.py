# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A recording gives, byte by byte, the transitions that the recorder sent while it was made."""

from dataclasses import fields
from pathlib import Path
import random
import sys

from harness import returning
import numpy as np
import pytest
from rclpy.parameter import Parameter
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data import experience
from rl_nodes.data.reader import read_episode
from rl_nodes.nodes import conversions
from rl_nodes.nodes.experience_recorder import ExperienceRecorder
from rl_nodes.nodes.lifecycle import SUCCESS
from rl_nodes.nodes.recorded_transitions import read_recorded, task_of
from rl_nodes.tasks import load_task

sys.path.insert(0, str(Path(__file__).parents[1] / 'unit' / 'datasets'))


pytestmark = pytest.mark.usefixtures('ros')
COST = 'clamp/cost/whose name is longer than any column is wide, and longer'


@pytest.mark.parametrize(('mixed', 'target'), [(False, ''), (True, ''), (True, '7.5')])
def test_live_and_offline_are_the_same(tmp_path: Path, mixed: bool, target: str) -> None:
    from recordings import rollout

    name = returning(tmp_path, target=20.0) if target else 'reach'
    task = load_task('arm', name)
    node = ExperienceRecorder('experience_recorder', parameter_overrides=[
        Parameter(name, value=value) for name, value in (
            ('robot', 'arm'), ('task', name), ('directory', str(tmp_path)),
            ('target_return', target),
            ('publish_experience', True), ('autostart', False), ('batch_size', 4),
            ('sources', 'policy+teleop'))])
    assert node.trigger_configure() == SUCCESS
    sent: list[TransitionBatch] = []
    made: list[TransitionBatch] = []  # as the recorder makes them; some columns are not sent
    take = node._assembler.take
    node._assembler.take = lambda: made.append(take()) or made[-1]
    labels = experience.layout_columns(task.contract.observation.shape[0],
                                       task.contract.action.shape[0])
    node._batches.publish = lambda msg: sent.append(conversions.msg_to_batch(msg, labels))
    rng = random.Random(3)
    for number in (1, 2, 3):
        messages = rollout(task, number, steps=40, seed=number, who=('reach@3', 'teleop'),
                           changed={5: 'clamp/velocity', 6: 'clamp/position', 11: COST})
        if mixed:  # messages overtake each other by a few states
            keys = {id(entry): i + rng.uniform(0, 12) for i, entry in enumerate(messages)}
            first, messages = messages[:2], sorted(messages[2:], key=lambda e: keys[id(e)])
            messages = first + messages
        for topic, _, data in messages:
            node._on_message(topic, data)
    node.deactivate()
    assert node.trigger_cleanup() == SUCCESS
    node.destroy_node()
    live, told = TransitionBatch.concatenate(made), TransitionBatch.concatenate(sent)
    assert len(sent) > 5 and len(live) == 3 * 40
    for key, column in told.columns().items():
        assert column.tobytes() == getattr(live, key).tobytes(), key

    files = sorted(tmp_path.glob('*.mcap'))
    offline = TransitionBatch.concatenate(
        [read_recorded(episode, task_of(episode, task=name)).batch
         for episode in map(read_episode, files)])
    for field in fields(TransitionBatch):
        ours, theirs = getattr(offline, field.name), getattr(live, field.name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.tobytes() == theirs.tobytes(), field.name
    assert np.unique(offline.episode).tolist() == [1, 2, 3]
    labels = [b''] * 40
    labels[5], labels[6], labels[11] = b'clamp/velocity', b'clamp/position', COST.encode()[:48]
    assert offline.intervention.tolist() == labels * 3
    assert offline.limited.tolist() == [label != b'' for label in labels] * 3
    if target:
        left = 8.0 * offline.observation[:, 1]  # the older frame is the element before
        assert left[offline.step == 0].tolist() == [7.5] * 3
        assert len(np.unique(left)) > 3 * 30
