"""Who is compared with this package, in every formulation that was tried, and which of them is not installed.

Each peer is a family of formulations of the same steps; the fastest one in a cell stands for it there. Left out
because they are slower wherever they were tried: products as multiply-and-sum and unrolled scans in JAX, and
`torch.compile` over several steps; for several layers transposed weights in JAX.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import partial

from task import Cell, Contestant, Task

__all__ = ["MULTILAYER_PEERS", "PEERS", "Formulations", "formulations", "limit_threads", "missing_peers"]

# Name of a peer: the distribution that it needs.
PEERS = {"JAX lax.scan": "jax", "PyTorch by hand": "torch", "PyTorch autograd": "torch"}
MULTILAYER_PEERS = ("JAX lax.scan", "PyTorch by hand")

Formulations = Mapping[str, Callable[[Task], Contestant]]


def missing_peers() -> dict[str, str]:
    """Return the peers that cannot run here, with what to install."""
    return {peer: library for peer, library in PEERS.items() if importlib.util.find_spec(library) is None}


def formulations(peer: str, cell: Cell) -> Formulations:
    """Return the ways in which ``peer``, which must be installed, writes the steps of the network of ``cell``."""
    if cell.n_hidden > 1:
        return _multilayer_jax() if peer == "JAX lax.scan" else _multilayer_torch(cell.batch_size)
    return {"JAX lax.scan": _jax, "PyTorch by hand": _torch_by_hand, "PyTorch autograd": _torch_autograd}[peer]()


def limit_threads(n_threads: int) -> None:
    """Hold PyTorch to ``n_threads``; JAX takes as many as the process may use processors."""
    if importlib.util.find_spec("torch"):
        importlib.import_module("torch").set_num_threads(n_threads)


def _layouts() -> dict[str, bool]:
    return {"W": False, "W transposed": True}


def _jax() -> Formulations:
    scan = importlib.import_module("jax_scan").JaxScan
    moments = {"": False, ", delayed update": True}
    return {
        f"{layout}{moment}": partial(scan, transposed=transposed, delayed=delayed)
        for layout, transposed in _layouts().items()
        for moment, delayed in moments.items()
    }


def _torch_by_hand() -> Formulations:
    loops = importlib.import_module("torch_loops")
    return {
        f"{layout}, {update}": partial(loops.ByHand, transposed=transposed, update=update)
        for layout, transposed in _layouts().items()
        for update in loops.UPDATES
    }


def _torch_autograd() -> Formulations:
    return {"functional": importlib.import_module("torch_loops").Autograd}


def _multilayer_jax() -> Formulations:
    loops = importlib.import_module("multilayer_jax")
    return {scan: partial(loops.MultilayerScan, scan=scan) for scan in loops.SCANS}


def _multilayer_torch(batch_size: int) -> Formulations:
    loops = importlib.import_module("multilayer_torch")
    updates = [update for update in loops.UPDATES if batch_size == 1 or update.startswith("rows")]
    return {update: partial(loops.MultilayerByHand, update=update) for update in updates}
