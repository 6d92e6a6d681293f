# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A recording gives, byte by byte, the transitions that the recorder sent while it was made."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
import random
import sys

import numpy as np
import pytest
import rclpy
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data import experience
from rl_nodes.data.reader import read_episode
from rl_nodes.nodes import conversions
from rl_nodes.nodes.experience_recorder import ExperienceRecorder
from rl_nodes.nodes.lifecycle import SUCCESS
from rl_nodes.nodes.recorded_transitions import read_recorded
from rl_nodes.tasks import load_task

sys.path.insert(0, str(Path(__file__).parents[1] / 'unit' / 'datasets'))


@pytest.fixture(autouse=True)
def ros() -> Iterator[None]:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.try_shutdown()


@pytest.mark.parametrize('mixed', [False, True])
def test_live_and_offline_are_the_same(tmp_path: Path, mixed: bool) -> None:
    from recordings import rollout

    task = load_task('arm', 'reach')
    node = ExperienceRecorder('experience_recorder', parameter_overrides=[
        Parameter(name, value=value) for name, value in (
            ('robot', 'arm'), ('task', 'reach'), ('directory', str(tmp_path)),
            ('publish_experience', True), ('autostart', False), ('batch_size', 4),
            ('sources', 'policy+teleop'))])
    assert node.trigger_configure() == SUCCESS
    sent: list[TransitionBatch] = []
    labels = experience.layout_columns(task.contract.observation.shape[0],
                                       task.contract.action.shape[0])
    node._batches.publish = lambda msg: sent.append(conversions.msg_to_batch(msg, labels))
    rng = random.Random(3)
    for number in (1, 2, 3):
        messages = rollout(task, number, steps=40, seed=number, who=('reach@3', 'teleop'))
        if mixed:  # messages overtake each other by a few states
            keys = {id(entry): i + rng.uniform(0, 12) for i, entry in enumerate(messages)}
            first, messages = messages[:2], sorted(messages[2:], key=lambda e: keys[id(e)])
            messages = first + messages
        for topic, _, data in messages:
            node._on_message(topic, data)
    node.deactivate()
    assert node.trigger_cleanup() == SUCCESS
    node.destroy_node()
    live = TransitionBatch.concatenate(sent)
    assert len(sent) > 5 and len(live) == 3 * 40

    files = sorted(tmp_path.glob('*.mcap'))
    offline = TransitionBatch.concatenate(
        [read_recorded(read_episode(path), task).batch for path in files])
    for field in fields(TransitionBatch):
        if field.name == 'origin':  # is not sent to the trainer
            continue
        ours, theirs = getattr(offline, field.name), getattr(live, field.name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.tobytes() == theirs.tobytes(), field.name
    assert np.unique(offline.episode).tolist() == [1, 2, 3]
