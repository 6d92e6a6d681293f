# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A deployed policy: one self-contained ONNX file and a manifest beside it.

The manifest says what the file must be (SHA-256, size), what it speaks (the whole contract), where
it comes from, and what it answers to a few observations. Loading hashes first and then works from
the bytes that were hashed, so that nothing can be exchanged in between. Nothing is pickled, and
neither torch nor ONNX Runtime is imported here.
"""

from dataclasses import dataclass
from datetime import datetime
import hashlib
import math
import os
from pathlib import Path
import re
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import BundleError
from rl_nodes.inference import graph_check
from rl_nodes.inference.chunking import ChunkLayout
from rl_nodes.inference.memory import Layout, LEAST_GOLDEN, problem_of, shorthand

FORMAT_VERSION = 1
MAX_ONNX_BYTES = graph_check.MAX_ONNX_BYTES
MAX_MANIFEST_BYTES = 4 * 1024**2
MAX_GOLDEN = 256
MANIFEST_SUFFIX = '.manifest.json'
_NEXT = '.next'  # of a manifest whose ONNX file is just being put in its place

Sampling = Literal['deterministic', 'squashed_gaussian', 'gaussian']

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,63}')
_AGAIN = 'export the policy again, or copy both files again from where they were made'
_PARTS = (f'a policy is <name>.onnx with <name>{MANIFEST_SUFFIX} beside it, {_AGAIN}; "rl_nodes '
          'import" makes one of another trainer\'s ONNX file')


class GoldenVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What the policy answered to one observation when it was exported.

    :param observation: shape (O,); float32 values, exact in JSON.
    :param action: shape (A,), ditto; of a chunk all rows, one after the other.
    :param pictures: number of the pictures that it saw besides, of
        :func:`rl_nodes.inference.probes.probe_pictures`; left out of the JSON where it sees none.
    """

    observation: tuple[float, ...]
    action: tuple[float, ...]
    pictures: Annotated[int, msgspec.Meta(ge=0)] | msgspec.UnsetType = msgspec.UNSET


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Where the network of an imported policy comes from.

    :param file: name of the file that was imported.
    :param sha256: of that file, 64 hexadecimal digits.
    :param trainer: what made it, in the words of whoever imported it; may be empty.
    :param changes: what was put around the network, in words.
    """

    file: str
    sha256: str
    trainer: str
    changes: tuple[str, ...]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Everything about a policy that is not its weights.

    :param format_version: layout of this record.
    :param name: name of the policy; letters, digits, ``_``, ``.`` and ``-``.
    :param version: grows with every export of that name.
    :param sha256: of the ONNX file, 64 hexadecimal digits.
    :param size: of the ONNX file [bytes].
    :param opset: ONNX operator set of the graph.
    :param contract: what the policy relies on.
    :param algorithm: what trained it, as in ``sac``.
    :param sampling: how exploration draws an action around the deterministic one.
    :param training_commit: revision of the training code; empty where unknown.
    :param training_updates: learner updates behind this version.
    :param evaluation: metric -> value of the evaluation of this version; None where none was made.
    :param data: name -> SHA-256 of each dataset used.
    :param golden: at least one observation with its action; of a policy with a memory the first
        steps of an episode, at least 20, in order.
    :param created: when it was exported, UTC, ISO 8601.
    :param digest: SHA-256 of this manifest with an empty digest: damage is noticed (a signature is
        what would make forgery noticed).
    :param origin: of an imported policy; left out of the JSON of any other.
    :param chunk_layout: of a policy that answers with the actions of several periods, ditto. To
        be read as :attr:`chunk`.
    :param noise_correlation: of the exploration noise of ``gaussian`` sampling from one step to
        the next; left out where it is white.
    :param memory_layout: of a policy that remembers, ditto. To be read as :attr:`memory`.
    """

    format_version: int = FORMAT_VERSION
    name: str
    version: int
    sha256: str
    size: int
    opset: int
    contract: Contract
    algorithm: str
    sampling: Sampling
    training_commit: str
    training_updates: int
    evaluation: dict[str, Any] | None
    data: dict[str, str]
    golden: tuple[GoldenVector, ...]
    created: str
    digest: str = ''
    origin: Origin | msgspec.UnsetType = msgspec.UNSET
    chunk_layout: ChunkLayout | msgspec.UnsetType = msgspec.field(
        name='chunk', default=msgspec.UNSET)
    noise_correlation: float | msgspec.UnsetType = msgspec.UNSET
    memory_layout: Layout | msgspec.UnsetType = msgspec.field(
        name='memory', default=msgspec.UNSET)

    @property
    def chunk(self) -> ChunkLayout | None:
        """Return what an answer means in time; None where it is the action of one period."""
        layout = self.chunk_layout
        return None if isinstance(layout, msgspec.UnsetType) else layout

    @property
    def memory(self) -> Layout:
        """Return the state tensors; none where the policy remembers nothing."""
        layout = self.memory_layout
        return () if isinstance(layout, msgspec.UnsetType) else layout

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Return the shape of an answer: (A,), or (H, A) of a chunk."""
        rows = () if self.chunk is None else (self.chunk.horizon,)
        return (*rows, *self.contract.action.shape)

    def sealed(self) -> 'Manifest':
        """Return the same manifest with its digest filled in."""
        return msgspec.structs.replace(self, digest=self.expected_digest())

    def expected_digest(self) -> str:
        """Return the digest that belongs to the other fields, 64 hexadecimal digits."""
        bare = msgspec.structs.replace(self, digest='')
        return hashlib.sha256(msgspec.json.encode(bare, order='deterministic')).hexdigest()

    def metadata(self) -> dict[str, str]:
        """Return what the ONNX file itself must say in its ``metadata_props``."""
        chunk = {} if self.chunk is None else {
            'horizon': str(self.chunk.horizon), 'spacing': str(self.chunk.spacing)}
        memory = {} if not self.memory else {'memory': shorthand(self.memory)}
        return chunk | memory | {
            'name': self.name,
            'version': str(self.version),
            'contract_fingerprint': self.contract.fingerprint(),
            'rate_hz': repr(float(self.contract.rate_hz)),
            'algorithm': self.algorithm,
            'training_commit': self.training_commit,
            'sampling': self.sampling,
        }


@dataclass(frozen=True)
class PolicyBundle:
    """
    One policy, complete.

    A bundle from :meth:`load` or :meth:`from_parts` has passed :func:`check`.

    :param onnx: the ONNX file's bytes.
    :param manifest: what belongs to them.
    """

    onnx: bytes
    manifest: Manifest

    @classmethod
    def sealed(cls, onnx_bytes: bytes, manifest: Manifest) -> 'PolicyBundle':
        """Return a new policy: its manifest with hash, size and digest filled in; not checked."""
        return cls(onnx_bytes, msgspec.structs.replace(
            manifest, sha256=hashlib.sha256(onnx_bytes).hexdigest(), size=len(onnx_bytes)
        ).sealed())

    @property
    def label(self) -> str:
        """Return ``<name>@<version>``, the policy's name in messages."""
        return f'{self.manifest.name}@{self.manifest.version}'

    def manifest_json(self) -> str:
        """Return the manifest as JSON, the counterpart of :meth:`from_parts`."""
        text = msgspec.json.encode(self.manifest, order='deterministic')
        return msgspec.json.format(text, indent=2).decode() + '\n'

    @classmethod
    def from_parts(cls, onnx_bytes: bytes, manifest_json: str | bytes) -> 'PolicyBundle':
        """
        Return the bundle made of an ONNX file's bytes and a manifest's JSON.

        :raises BundleError: not acceptable, see :func:`check`.
        """
        return _accept(onnx_bytes, manifest_json, 'the received policy')

    def save(self, path: Path | str) -> Path:
        """
        Write ``<name>.onnx`` and ``<name>.manifest.json`` beside it.

        Two files cannot be exchanged at once, so the new manifest stands beside the old one, as
        ``<name>.manifest.json.next``, until the new ONNX file is in its place. Whenever this is
        cut short, :meth:`load` finds the old policy or the new one, complete.

        :param path: the ONNX file to write, ending in ``.onnx``, or a folder to write into.
        :return: the ONNX file's path.
        :raises BundleError: the bundle is not acceptable, or the files cannot be written.
        """
        check(self)
        path = Path(path)
        if path.suffix != '.onnx':
            path = path / f'{self.manifest.name}.onnx'
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            following = _next_manifest_path(path)
            _write_atomic(following, self.manifest_json().encode())
            _write_atomic(path, self.onnx)
            following.replace(manifest_path(path))
            _sync_folder(path.parent)
        except OSError as error:
            raise BundleError(f'{path}: the policy {self.label} cannot be written: {error}; '
                              'free some space or choose another folder') from error
        return path

    @classmethod
    def load(cls, path: Path | str) -> 'PolicyBundle':
        """
        Return the policy in ``path`` if everything about it is right.

        :param path: the ONNX file; its manifest lies beside it.
        :raises BundleError: says what is wrong and what to do.
        """
        return _accept(*read_parts(path), str(path))


def read_parts(path: Path | str) -> tuple[bytes, bytes]:
    """
    Return the bytes of an ONNX file and of the manifest beside it; nothing is known of them yet.

    Of two manifests, where :meth:`PolicyBundle.save` was cut short, the one that names the file.

    :raises BundleError: one of them cannot be read or is too large.
    """
    path = Path(path)
    for manifest in (manifest_path(path), _next_manifest_path(path)):
        if manifest.is_file():
            onnx_bytes, text = _read_pair(path, manifest)
            if hashlib.sha256(onnx_bytes).hexdigest().encode() in text:
                return onnx_bytes, text
    return _read_pair(path, manifest_path(path))


def _read_pair(path: Path, manifest: Path) -> tuple[bytes, bytes]:
    return (read_bounded(path, MAX_ONNX_BYTES, 'the policy', _PARTS),
            read_bounded(manifest, MAX_MANIFEST_BYTES, 'the manifest of the policy', _PARTS))


def manifest_path(onnx_path: Path) -> Path:
    """Return where the manifest of an ONNX file lies."""
    return onnx_path.with_name(onnx_path.stem + MANIFEST_SUFFIX)


def _next_manifest_path(onnx_path: Path) -> Path:
    return onnx_path.with_name(manifest_path(onnx_path).name + _NEXT)


def check(bundle: PolicyBundle) -> None:
    """
    Refuse a bundle that must not reach a robot.

    Hash and size come first, then the manifest's own values, then the graph: see
    :func:`rl_nodes.inference.graph_check.check_graph`. The answers to the golden vectors are
    compared where the model runs, in ``PolicyRuntime``.

    :raises BundleError: says what is wrong and what to do.
    """
    _check_identity(bundle, bundle.label)
    check_graph_of(bundle, bundle.label)


def identify(onnx_bytes: bytes, manifest_json: str | bytes, source: str) -> PolicyBundle:
    """
    Return what two parts claim to be, once they belong together; the graph is not looked at yet.

    :param source: where they come from, for error messages.
    :raises BundleError: too large, hash or size that differ, or a manifest that is not acceptable.
    """
    if len(onnx_bytes) > MAX_ONNX_BYTES or len(manifest_json) > MAX_MANIFEST_BYTES:
        raise BundleError(f'{source}: {len(onnx_bytes)} bytes with a manifest of '
                          f'{len(manifest_json)}, at most {MAX_ONNX_BYTES} and '
                          f'{MAX_MANIFEST_BYTES} are accepted; export a smaller network')
    try:
        manifest = msgspec.json.decode(manifest_json, type=Manifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BundleError(f'{source}: its manifest is damaged or of another version of rl_nodes: '
                          f'{error}; {_AGAIN}') from None
    bundle = PolicyBundle(onnx_bytes, manifest)
    _check_identity(bundle, source)
    return bundle


def _accept(onnx_bytes: bytes, manifest_json: str | bytes, source: str) -> PolicyBundle:
    bundle = identify(onnx_bytes, manifest_json, source)
    check_graph_of(bundle, source)
    return bundle


def _check_identity(bundle: PolicyBundle, source: str) -> None:
    onnx_bytes, manifest = bundle.onnx, bundle.manifest
    if len(onnx_bytes) != manifest.size:
        raise BundleError(f'{source}: {len(onnx_bytes)} bytes, the manifest says {manifest.size}: '
                          f'the file is truncated or of another version; {_AGAIN}')
    digest = hashlib.sha256(onnx_bytes).hexdigest()
    if digest != manifest.sha256:
        raise BundleError(f'{source}: SHA-256 {digest[:16]}..., the manifest says '
                          f'{manifest.sha256[:16]}...: the file is damaged or of another version; '
                          f'{_AGAIN}')
    problem = _manifest_problem(manifest)
    if problem:
        raise BundleError(f'{source}: the manifest {problem}; {_AGAIN}')


def check_graph_of(bundle: PolicyBundle, source: str) -> None:
    """Refuse a graph that no policy may have; BundleError says why."""
    manifest = bundle.manifest
    try:
        graph_check.check_graph(bundle.onnx, manifest.contract, manifest.sampling,
                                manifest.metadata(), manifest.opset, manifest.action_shape,
                                manifest.memory)
    except BundleError as error:
        raise BundleError(f'{source}: {error}') from None


def _manifest_problem(manifest: Manifest) -> str | None:
    if manifest.format_version != FORMAT_VERSION:
        return (f'has format {manifest.format_version}, this version of rl_nodes reads '
                f'{FORMAT_VERSION}')
    if manifest.digest != manifest.expected_digest():
        return 'does not match its own digest: it is damaged or was edited'
    if not _NAME.fullmatch(manifest.name):
        return (f'has the name {manifest.name!r}; allowed are 1 to 64 letters, digits, "_", "." '
                'and "-", the first a letter or digit')
    if manifest.version < 0 or manifest.training_updates < 0:
        return (f'has version {manifest.version} and training_updates '
                f'{manifest.training_updates}, both must be 0 or more')
    try:
        offset = datetime.fromisoformat(manifest.created).utcoffset()
    except ValueError:
        offset = None
    if offset is None or offset.total_seconds() != 0.0:
        return f'was created at {manifest.created!r}, expected a UTC time in ISO 8601'
    if manifest.sampling != 'deterministic' and manifest.chunk is not None:
        return f'has chunks with {manifest.sampling} sampling, expected deterministic'
    correlation = manifest.noise_correlation
    if correlation is not msgspec.UNSET and not (
            manifest.sampling == 'gaussian' and 0.0 < correlation < 1.0):
        return (f'has noise_correlation {correlation} with {manifest.sampling} sampling, expected '
                'between 0 and 1, with gaussian')
    if not isinstance(manifest.memory_layout, msgspec.UnsetType):
        if manifest.chunk is not None:
            return 'has chunks and a memory, expected one of them'
        problem = problem_of(manifest.memory, (
            *graph_check.NAMES, *(picture.input for picture in manifest.contract.pictures)))
        if problem:
            return problem
    return _golden_problem(manifest)


def _golden_problem(manifest: Manifest) -> str | None:
    if not 0 < len(manifest.golden) <= MAX_GOLDEN:
        return (f'has {len(manifest.golden) or "no"} golden vectors, expected at least one and at '
                f'most {MAX_GOLDEN}')
    if manifest.memory and len(manifest.golden) < LEAST_GOLDEN:
        return (f'has {len(manifest.golden)} golden vectors of a policy with a memory, expected '
                f'the first {LEAST_GOLDEN} steps of an episode or more')
    expected = (len(manifest.contract.observation.elements),
                math.prod(manifest.action_shape))
    for i, vector in enumerate(manifest.golden):
        found = (len(vector.observation), len(vector.action))
        if found != expected:
            return (f'has golden vector {i} of {found[0]} -> {found[1]} values, the contract '
                    f'says {expected[0]} -> {expected[1]}')
        shown = isinstance(vector.pictures, int)
        if shown != bool(manifest.contract.pictures):
            return (f'has golden vector {i} with{"" if shown else "out"} pictures, which is not '
                    'what the contract says')
        if not np.isfinite([*vector.observation, *vector.action]).all():
            return f'has golden vector {i} with values that are not finite'
    return None


def read_bounded(path: Path, limit: int, what: str, advice: str) -> bytes:
    """
    Return a file's content.

    :param limit: greatest size that is accepted [bytes].
    :param what: the file is, for error messages.
    :param advice: what to do where it cannot be read.
    :raises BundleError: unreadable or larger.
    """
    try:
        with path.open('rb') as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise BundleError(f'{path}: {what} cannot be read: {error.strerror or error}; '
                          f'{advice}') from None
    if len(content) > limit:
        raise BundleError(f'{path}: {what} has more than {limit} bytes, the most that is '
                          'accepted; export a smaller network')
    return content


def _write_atomic(path: Path, content: bytes) -> None:
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with temporary.open('wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make renames durable, which they are only once their folder has been written."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
