# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""After warm-up the C++ control tick allocates nothing of its own."""

from collections.abc import Callable
from pathlib import Path
import shutil
import subprocess

from harness import make_bundle, make_recurrent_bundle, observer
import numpy as np
import pytest
from rl_nodes.inference.bundle import PolicyBundle
from test_control_path import Asker, server, TASK

SOURCE = Path(__file__).parents[1] / 'emulators' / 'count_allocations.c'


@pytest.mark.parametrize('make', [make_bundle, make_recurrent_bundle])
@pytest.mark.skipif(shutil.which('gcc') is None,
                    reason='without gcc there is no counter to preload, nor a tick in C++')
def test_the_tick_does_not_allocate(make: Callable[..., PolicyBundle], tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('rl_nodes.realtime._control', reason='there is no C++ compiler')
    library, counters = tmp_path / 'count.so', tmp_path / 'counters'
    subprocess.run(['gcc', '-O1', '-fPIC', '-shared', '-o', library, SOURCE, '-ldl'], check=True,
                   timeout=60)
    policy = make(TASK.contract).save(tmp_path / 'policy.onnx')

    def allocated() -> list[int]:
        """Return what the tick, the middleware and ONNX Runtime have allocated so far."""
        return np.fromfile(counters, np.uint64).tolist()

    with observer() as seen, monkeypatch.context() as patch:
        patch.setenv('LD_PRELOAD', str(library))
        patch.setenv('COUNT_FILE', str(counters))
        with server(f'policy:={policy}', 'control_path:=cpp'):
            patch.undo()  # for that process only
            asker = Asker(seen)
            asker.connect()
            for _ in range(20):
                assert asker.ask(asker.state()) is not None
            warm = allocated()
            assert all(warm), 'the counters work: each of them did allocate in the beginning'
            for _ in range(200):
                assert asker.ask(asker.state()) is not None
            assert allocated()[0] == warm[0]
