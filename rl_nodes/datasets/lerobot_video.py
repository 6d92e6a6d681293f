# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The pictures of a LeRobotDataset: one MP4 file per camera, the episodes one after the other.

A video has one frame per row. A camera that is slower than the robot has fewer: a row shows the
newest picture that is not newer than its state (before the first one: the first), and
``complementary_info.<camera>_stamp_ns`` says of which state that picture is.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from rl_nodes.core.errors import RecordingError
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.datasets.formats import Picture

CODEC, QUALITY, GROUP = 'libx264', '18', 2  # every second frame can be jumped to
_STATISTICS_EVERY = 10  # frames


class VideoColumns:
    """
    Writes the videos while the table is written.

    :param folder: of the data set.
    :param fps: frames per second.
    """

    def __init__(self, folder: Path, fps: int) -> None:
        self._folder, self._fps = folder, fps
        self._videos: dict[str, _Video] = {}
        self._begun = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the features that are videos."""
        return tuple(f'observation.images.{name}' for name in self._videos)

    def add(self, pictures: dict[str, Iterator[Picture]],
            episode: RecordedEpisode) -> dict[str, np.ndarray]:
        """
        Write the pictures of an episode; return the columns with their stamps.

        :raises RecordingError: other cameras than in the episodes before, or none of its pictures.
        """
        if not self._begun:
            self._begun = True
            self._videos = {name: _Video(self._folder / f'videos/observation.images.{name}/'
                                         'chunk-000/file-000.mp4', self._fps)
                            for name in sorted(pictures)}
        if set(pictures) != set(self._videos):
            raise RecordingError(f'{episode.name} has pictures of '
                                 f'{", ".join(sorted(pictures)) or "no camera"}, the episodes '
                                 f'before it of {", ".join(self._videos) or "none"}; split them')
        return {f'complementary_info.{name}_stamp_ns': video.add(pictures[name], episode)
                for name, video in self._videos.items()}

    def row(self, first: int, count: int) -> dict[str, Any]:
        """Return where an episode lies in the videos, for its row in ``meta/episodes``."""
        found = {}
        for key in self.keys:
            found |= {f'videos/{key}/chunk_index': 0, f'videos/{key}/file_index': 0,
                      f'videos/{key}/from_timestamp': first / self._fps,
                      f'videos/{key}/to_timestamp': (first + count) / self._fps}
        return found

    def stats(self) -> dict[str, dict[str, list]]:
        """Return the statistics of the newest episode's pictures, per colour, from 0 to 1."""
        return {key: video.stats() for key, video in zip(self.keys, self._videos.values())}

    def features(self) -> dict[str, Any]:
        """Return the entries of ``meta/info.json``."""
        return {key: video.feature() for key, video in zip(self.keys, self._videos.values())}

    def close(self) -> None:
        """Complete the files."""
        for video in self._videos.values():
            video.close()


class _Video:
    """One file."""

    def __init__(self, path: Path, fps: int) -> None:
        path.parent.mkdir(parents=True)
        self._fps, self._path = fps, path
        self._container = av.open(str(path), 'w')
        self._stream = self._container.add_stream(CODEC, rate=fps)
        self._stream.pix_fmt = 'yuv420p'
        self._stream.options = {'crf': QUALITY, 'g': str(GROUP), 'preset': 'veryfast'}
        self._shape: tuple[int, ...] = ()
        self._frames = 0
        self._seen: list[np.ndarray] = []

    def add(self, pictures: Iterator[Picture], episode: RecordedEpisode) -> np.ndarray:
        self._seen = []
        shown = next(pictures, None)
        if shown is None:
            raise RecordingError(f'{episode.name} has no picture of {self._path.parts[-3]}')
        coming = next(pictures, None)
        stamps = []
        for stamp in episode.stamp_ns.tolist():
            while coming is not None and coming[0] <= stamp:
                shown, coming = coming, next(pictures, None)
            self._encode(shown[1], episode.name)
            stamps.append(shown[0])
            if len(stamps) % _STATISTICS_EVERY == 1:
                self._seen.append(shown[1].reshape(-1, 3)[::7])
        return np.array(stamps, np.int64)

    def _encode(self, pixels: np.ndarray, name: str) -> None:
        if not self._shape:
            self._shape = pixels.shape
            self._stream.height, self._stream.width = pixels.shape[:2]
        if pixels.shape != self._shape or pixels.shape[0] % 2 or pixels.shape[1] % 2:
            raise RecordingError(f'{name}: a picture has shape {pixels.shape}, expected '
                                 f'{self._shape}, even numbers')
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format='rgb24')
        frame.pts, frame.time_base = self._frames, Fraction(1, self._fps)
        self._frames += 1
        self._container.mux(self._stream.encode(frame))

    def stats(self) -> dict[str, list]:
        pixels = np.concatenate(self._seen).astype(np.float64) / 255.0
        found = {'min': pixels.min(0), 'max': pixels.max(0), 'mean': pixels.mean(0),
                 'std': pixels.std(0), **{
                     f'q{round(100 * part):02d}': np.quantile(pixels, part, axis=0)
                     for part in (0.01, 0.1, 0.5, 0.9, 0.99)}}
        return {**{name: values.reshape(3, 1, 1).tolist() for name, values in found.items()},
                'count': [len(self._seen)]}

    def feature(self) -> dict[str, Any]:
        height, width = self._shape[:2]
        return {'dtype': 'video', 'shape': [height, width, 3],
                'names': ['height', 'width', 'channels'], 'info': {
                    'video.height': height, 'video.width': width, 'video.codec': 'h264',
                    'video.pix_fmt': 'yuv420p', 'video.is_depth_map': False,
                    'video.fps': self._fps, 'video.channels': 3, 'has_audio': False}}

    def close(self) -> None:
        if self._shape:
            self._container.mux(self._stream.encode(None))
        self._container.close()
