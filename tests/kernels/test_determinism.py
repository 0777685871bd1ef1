"""The same bits at any number of BLAS threads and threads of our own, seen from separate processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import hashlib, sys
import numpy as np
from threadpoolctl import threadpool_limits
import scipy.linalg.cython_blas
from meanfield import Empirical, Network, Recording, risk, run_sgd

recorded = sys.argv[2] == "recorded"
threadpool_limits(int(sys.argv[1]), user_api="blas")
rng = np.random.default_rng(0)
law = Empirical(rng.standard_normal((200, 300)) / 17, rng.standard_normal((200, 2)))
digest = hashlib.sha256()
# Several layers in one precision: each is a compilation, half a minute long.
for widths, dtype in (((300, 1500, 2), np.float32), ((300, 1500, 2), np.float64), ((300, 700, 530, 2), np.float64)):
    network = Network.init(widths, biases=True, dtype=dtype, rng=1)
    measure = lambda net: {"risk": risk(net, law).value}
    record = Recording(steps=[5, 150], measure=measure) if recorded else None
    for batch_size in (1, 3):
        final = run_sgd(network, law, step_size=0.01, n_steps=300, batch_size=batch_size, record=record, rng=2).final
        for array in (*final.weights, *final.biases):
            digest.update(array.tobytes())
        digest.update(str(risk(final, law).value).encode())
print(digest.hexdigest())
"""


def _digest(blas_threads: int, own_threads: int, recorded: str) -> str:
    environment = os.environ | {"MEANFIELD_NUM_THREADS": str(own_threads)}
    command = [sys.executable, "-c", SCRIPT, str(blas_threads), recorded]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.long
def test_bits_do_not_depend_on_threads_or_recording():
    digests = {
        (blas, own, recorded): _digest(blas, own, recorded)
        for blas in (1, 2, 4)
        for own in (1, 2)
        for recorded in ("plain", "recorded")
    }
    assert all(len(digest) == 64 for digest in digests.values())
    assert len(set(digests.values())) == 1, digests
