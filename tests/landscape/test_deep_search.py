"""Searches for kept neurons in several hidden layers, and for any loss, against twins that try every set afresh."""

from __future__ import annotations

import tracemalloc
import warnings
from itertools import combinations, product

import numpy as np
import pytest
from oracles import forward, losses_of_samples
from random_networks import random_network as make_network
from random_networks import random_samples

from meanfield import Empirical, IsotropicGaussians, MeanfieldWarning, Network, choose_kept, load_dataset, run_sgd
from meanfield.landscape.subsets import SUBSET_METHODS

N_OUTPUTS = {"square": 2, "logistic": 1, "cross-entropy": 3}
CASES = [
    ((3, 5, 4), "square", "mean-field", True),
    ((3, 4, 5), "cross-entropy", "standard", True),
    ((3, 4, 3, 5), "square", "standard", False),
    ((3, 4, 5, 4), "logistic", "mean-field", True),
    ((3, 6), "logistic", "mean-field", False),
    ((3, 6), "cross-entropy", "standard", True),
]


def make_case(widths, loss, scaling, biases, seed=0, activation="tanh"):
    options = {"scaling": scaling, "biases": biases, "seed": seed, "activation": activation}
    law = Empirical(*random_samples(loss, 15, widths[0], seed=seed))
    return make_network((*widths, N_OUTPUTS[loss]), **options), law


def phi(network, law, loss, kept):
    """Loss of the kept neurons alone, the weights from n_l neurons of which m are kept times n_l / m."""
    weights = [np.array(w) for w in network.weights]
    biases = None if network.biases is None else [np.array(b) for b in network.biases]
    for layer, indices in enumerate(kept):
        if network.scaling == "standard":
            weights[layer + 1] *= network.widths[layer + 1] / len(indices)
        weights[layer], weights[layer + 1] = weights[layer][indices], weights[layer + 1][:, indices]
        if biases is not None:
            biases[layer] = biases[layer][indices]
    outputs = forward(weights, biases, network.activation, network.scaling, law.x)
    return losses_of_samples(loss, law.y, outputs).mean()


def phis(network, law, loss, kept):
    """phi_1, .., phi_H."""
    whole = [list(range(n)) for n in network.widths[1:-1]]
    return [phi(network, law, loss, [*whole[:below], *kept[below:]]) for below in range(network.n_hidden)]


def greedy_twin(network, law, loss, counts, draw=None, worst=False):
    """From the last layer down, neuron by neuron, each of a pool that ``draw`` takes of those left."""
    kept, whole = [], [list(range(n)) for n in network.widths[1:-1]]
    for layer in range(network.n_hidden - 1, -1, -1):
        chosen = []
        for _ in range(counts[layer]):
            pool = [i for i in whole[layer] if i not in chosen]
            pool = pool if draw is None else draw(pool)
            losses = [phi(network, law, loss, [*whole[:layer], [*chosen, i], *kept]) for i in pool]
            chosen.append(pool[int(np.argmax(losses) if worst else np.argmin(losses))])
        kept = [chosen, *kept]
    return kept


def as_lists(kept):
    return [sorted(map(int, neurons)) for neurons in kept]


@pytest.mark.parametrize("method", ["greedy", "adversarial-greedy"])
@pytest.mark.parametrize("case", CASES)
def test_greedy_tries_every_neuron_from_the_last_layer_down(case, method):
    network, law = make_case(*case)
    for counts in (tuple(n // 2 for n in case[0][1:]), (3,) * network.n_hidden):
        expected = greedy_twin(network, law, case[1], counts, worst=method == "adversarial-greedy")
        assert as_lists(choose_kept(network, law, counts, method=method, loss=case[1])) == as_lists(expected)


def test_of_many_neurons_the_best_of_those_drawn_joins():
    network, law = make_case((3, 9, 8), "cross-entropy", "mean-field", True)
    rng = np.random.default_rng(4)
    expected = greedy_twin(
        network,
        law,
        "cross-entropy",
        (4, 4),
        draw=lambda pool: sorted(rng.choice(pool, 2, replace=False)) if len(pool) > 2 else pool,
    )
    options = {"method": "greedy", "loss": "cross-entropy", "n_candidates": 2}
    assert as_lists(choose_kept(network, law, **options, rng=4)) == as_lists(expected)
    whole = choose_kept(network, law, method="greedy", loss="cross-entropy")
    assert as_lists(whole) != as_lists(expected)


def test_the_square_loss_tries_all_neurons_of_the_last_layer():
    network, law = make_case((3, 4, 40), "square", "mean-field", True)
    kept = choose_kept(network, law, (2, 10), method="greedy", n_candidates=4)
    assert as_lists(kept) == as_lists(greedy_twin(network, law, "square", (2, 10)))


@pytest.mark.parametrize("case", CASES)
def test_no_exchange_improves_what_swaps_find(case):
    network, law = make_case(*case)
    kept = as_lists(choose_kept(network, law, method="swaps", loss=case[1]))
    found = phis(network, law, case[1], kept)
    for layer, neurons in enumerate(kept):
        others = set(range(network.widths[layer + 1])) - set(neurons)
        for leaving, joining in product(neurons, others):
            exchanged = [*neurons]
            exchanged[neurons.index(leaving)] = joining
            assert phis(network, law, case[1], [*kept[:layer], exchanged, *kept[layer + 1 :]])[layer] >= found[layer]
    greedy = phis(network, law, case[1], as_lists(choose_kept(network, law, method="greedy", loss=case[1])))
    assert found[-1] <= greedy[-1] * (1 + 1e-12)


def swaps_twin(network, law, loss, chosen):
    """Neuron by neuron the best of all in its place, until none is better; and the neurons that left and came back."""
    chosen, left, returned, improved = list(chosen), set(), set(), True
    while improved:
        improved = False
        for place, neuron in enumerate(chosen):
            pool = [neuron, *sorted(set(range(network.widths[1])) - set(chosen))]
            losses = [phi(network, law, loss, [[*chosen[:place], i, *chosen[place + 1 :]]]) for i in pool]
            best = pool[int(np.argmin(losses))]
            if min(losses) < losses[0] * (1 - 1e-12):
                chosen[place], improved = best, True
                left, returned = left | {neuron}, returned | ({best} & left)
    return chosen, returned


@pytest.mark.parametrize("seed", [99, 356])
def test_a_neuron_that_was_exchanged_may_come_back(seed):
    network, law = make_case((3, 10), "cross-entropy", "mean-field", True, seed=seed)
    (start,) = greedy_twin(network, law, "cross-entropy", (5,))
    expected, returned = swaps_twin(network, law, "cross-entropy", start)
    assert returned & set(expected)
    assert as_lists(choose_kept(network, law, method="swaps", loss="cross-entropy")) == as_lists([expected])


@pytest.mark.parametrize("seed", range(4))
def test_gains_that_are_rounding_exchange_nothing(seed):
    # Rectifiers with c times the incoming and 1/c of the outgoing weights say the same.
    rng = np.random.default_rng(seed)
    scales = rng.uniform(0.5, 2, (8, 1))
    weights = [scales * rng.standard_normal((1, 3)), (rng.standard_normal((3, 1)) / scales.T)]
    network = Network([w.astype(np.float32) for w in weights], activation="relu", scaling="mean-field")
    law = Empirical(*random_samples("cross-entropy", 50, 3))
    greedy, swaps = (choose_kept(network, law, method=method, loss="cross-entropy") for method in ("greedy", "swaps"))
    assert as_lists(swaps) == as_lists(greedy)


@pytest.mark.parametrize("case", [case for case in CASES if len(case[0]) > 2])
def test_exhaustive_is_the_choice_whose_worst_vertex_is_best(case):
    network, law = make_case(*case)
    halves = [combinations(range(n), n // 2) for n in case[0][1:]]
    best = min(product(*halves), key=lambda kept: max(phis(network, law, case[1], [list(k) for k in kept])))
    kept = choose_kept(network, law, method="exhaustive", loss=case[1])
    assert as_lists(kept) == [list(neurons) for neurons in best]


def test_the_largest_norms_of_each_layer():
    network, law = make_case((3, 5, 4), "square", "mean-field", True)
    kept = choose_kept(network, law, method="adversarial-norm")
    for layer, neurons in enumerate(kept):
        incoming = np.column_stack([network.weights[layer], network.biases[layer]])
        norms = np.linalg.norm(incoming, axis=1) * np.linalg.norm(network.weights[layer + 1], axis=0)
        assert set(neurons) == set(np.argsort(-norms)[: len(neurons)])


@pytest.mark.parametrize("method", SUBSET_METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_method_gives_sorted_sets_of_the_sizes_asked_for(method, dtype):
    network = make_network((3, 5, 4, 2), dtype=dtype)
    law = Empirical(*random_samples("square", 30, 3))
    for counts in ((2, 3), (5, 4)):
        kept = choose_kept(network, law, counts, method=method, n_subsets=3, rng=1)
        assert [np.unique(neurons).size for neurons in kept] == list(counts)
        assert all((np.diff(neurons) > 0).all() for neurons in kept)


def trained_network(n_neurons, seed, law):
    widths, std = (law.dim, n_neurons, n_neurons, law.n_outputs), (1.0, None, None)
    start = Network.init(widths, mean=(None, 1.0, None), std=std, rng=seed)
    return run_sgd(start, law, step_size=0.05, n_steps=1000, batch_size=10, rng=seed + 10).final


def test_on_trained_networks_better_searches_find_better_sets():
    law = load_dataset("digits")
    rows = Empirical(law.x[:200], law.y[:200])
    for seed in range(3):
        network = trained_network(16, seed, law)
        names = ("swaps", "greedy", "best-of", "adversarial-greedy")
        found = {name: choose_kept(network, rows, method=name, rng=seed) for name in names}
        largest = {name: max(phis(network, rows, "square", as_lists(kept))) for name, kept in found.items()}
        draws = [choose_kept(network, rows, method="random", rng=draw) for draw in range(20)]
        random = np.median([max(phis(network, rows, "square", as_lists(kept))) for kept in draws])
        assert largest["swaps"] < largest["greedy"] < largest["best-of"] < random < largest["adversarial-greedy"]


def test_the_best_sets_of_trained_networks_are_below_greedy_ones_and_these_below_random_ones():
    law = load_dataset("digits")
    rows = Empirical(law.x[:100], law.y[:100])
    for seed in range(3):
        network = trained_network(6, seed, law)
        found = {name: choose_kept(network, rows, method=name) for name in ("exhaustive", "greedy")}
        best, greedy = (max(phis(network, rows, "square", as_lists(kept))) for kept in found.values())
        draws = [choose_kept(network, rows, method="random", rng=draw) for draw in range(20)]
        assert best <= greedy * (1 + 1e-12)
        assert greedy < np.median([max(phis(network, rows, "square", as_lists(kept))) for kept in draws])


def test_fresh_samples_come_before_the_candidates():
    network, gaussians = make_network((2, 6, 5, 1)), IsotropicGaussians(dim=2, delta=0.5)
    rng = np.random.default_rng(3)
    law = Empirical(*gaussians.sample(20, rng))
    options = {"method": "greedy", "n_candidates": 2}
    drawn = choose_kept(network, gaussians, n_samples=20, **options, rng=3)
    assert as_lists(drawn) == as_lists(choose_kept(network, law, **options, rng=rng))


def test_what_cannot_be_searched_is_refused():
    wide, law = make_network((3, 40, 4, 2)), Empirical(*random_samples("square", 100, 3))
    with pytest.raises(TypeError, match="a search among drawn candidates needs rng="):
        choose_kept(wide, law, method="greedy")
    with pytest.raises(ValueError, match=r"'exhaustive' would try .* sets of 44 hidden neurons, above the 90,909"):
        choose_kept(wide, law, method="exhaustive")
    with pytest.raises(
        ValueError, match=r"hidden layer 1 holds features of 100 samples, 33,600 bytes, above max_bytes=30,000"
    ):
        choose_kept(wide, law, method="greedy", max_bytes=30_000, rng=0)
    with pytest.raises(ValueError, match=r"'swaps' needs an N x N matrix of 8 N.2 = 128 bytes for N = 4"):
        choose_kept(wide, law, method="swaps", max_bytes=100, rng=0)
    with pytest.raises(ValueError, match="n_candidates must be at least 1, got 0"):
        choose_kept(wide, law, method="greedy", n_candidates=0, rng=0)
    with pytest.raises(ValueError, match="loss 'logistic' does not suit the targets"):
        choose_kept(wide, law, method="greedy", loss="logistic", rng=0)
    with pytest.warns(MeanfieldWarning, match="exchanges still lowered the loss after max_sweeps=1"):
        choose_kept(wide, law, method="swaps", n_candidates=1, max_sweeps=1, rng=0)


@pytest.mark.parametrize("method", ["greedy", "swaps"])
def test_a_search_takes_the_memory_that_it_is_allowed(method):
    n_samples, network = 20_000, make_network((3, 48, 48, 3), dtype=np.float32)
    law = Empirical(*random_samples("cross-entropy", n_samples, 3))
    options = {"method": method, "loss": "cross-entropy", "n_candidates": 1, "max_sweeps": 1}
    held = 4 * n_samples * (48 + 24)
    with warnings.catch_warnings(action="ignore", category=MeanfieldWarning):
        # Once before it is traced: compiling takes memory of its own.
        choose_kept(network, Empirical(law.x[:50], law.y[:50]), **options, rng=0)
        tracemalloc.start()
        choose_kept(network, law, max_bytes=held, **options, rng=0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert held < peak < 1.35 * held
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="hidden layer 1 holds features of 20,000 samples, 5,760,000 bytes"):
        choose_kept(network, law, max_bytes=held - 1, **options, rng=rng)
    # Nothing was drawn: it is refused before the layer above is searched.
    assert rng.random() == np.random.default_rng(0).random()
