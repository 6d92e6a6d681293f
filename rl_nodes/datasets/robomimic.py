# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Export to the HDF5 layout of robomimic, as its documentation of data sets describes it.

``data/demo_<i>`` holds ``actions``, ``rewards``, ``dones``, ``obs/<key>`` and ``next_obs/<key>``
with the attribute ``num_samples``; ``data`` has the attributes ``total`` and ``env_args``. The one
observation is called ``obs/observation``; what else is known of each row is kept in ``rl_nodes/``
of each demonstration. ``dones`` is 1 where the task ended or the row was cut.
"""

import json
from pathlib import Path

import h5py
import numpy as np
from rl_nodes.core.errors import RecordingError
from rl_nodes.datasets.formats import CONTRACT_KEY, METADATA_KEY, new_path, Source

OBSERVATION = 'observation'
_IN_LAYOUT = ('observation', 'next_observation', 'action', 'reward')


def write(output: Path, source: Source) -> int:
    """
    Write one HDF5 file; return the number of transitions.

    :raises RecordingError: nothing to write, or it cannot be written.
    """
    total = 0
    with new_path(output) as path, h5py.File(path, 'w') as file:
        data, names = file.create_group('data'), []
        for number, episode in enumerate(source.episodes):
            names.append(f'demo_{number}')
            demo, batch = data.create_group(names[-1]), episode.batch
            demo.attrs['num_samples'] = len(episode)
            demo.attrs[METADATA_KEY] = json.dumps(episode.metadata)
            demo['actions'] = batch.action
            demo['rewards'] = batch.reward
            demo['dones'] = (batch.terminated | batch.truncated).astype(np.int64)
            demo[f'obs/{OBSERVATION}'] = batch.observation
            demo[f'next_obs/{OBSERVATION}'] = batch.next_observation
            for name, values in episode.columns().items():
                if name not in _IN_LAYOUT:
                    demo[f'rl_nodes/{name}'] = values
            total += len(episode)
        if not names:
            raise RecordingError('no episode to export')
        data.attrs['total'] = total
        contract = source.contract
        data.attrs[CONTRACT_KEY] = contract.to_json() if contract else ''
        data.attrs['env_args'] = json.dumps({
            'env_name': contract.task if contract else '', 'type': 2, 'env_kwargs': {}})
        file.create_dataset('mask/train', data=np.array(names, 'S'))
    return total
