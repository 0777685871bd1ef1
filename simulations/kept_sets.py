"""How much does the choice of the kept neurons matter, and does the loss? Shevchenko & Mondelli 2020, Theorem 1(A).

Trains two-layer networks on the digits. By the square loss it chooses m of N neurons in ever better ways, and in bad
ones as the control of a set that is independent of the weights, and fits L_A - L = C m^p (N - m)/(N - 1) to each. Of
random sets it shows, by cross-entropy too, the standard deviation of L_A - L without the factor's square root and the
95% quantile of |L_A - L| without the factor: for cross-entropy no identity gives their exponents.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from meanfield import Network, dropout_quantiles, ladder_exponents, run_sgd, subset_ladder
from meanfield.model.laws import Law
from meanfield.plots.files import save_figure
from meanfield.plots.kept_sets import changes_by_choice
from meanfield.studies.data import law_of
from meanfield.theory.scaling import finite_population_factor, fit_exponent

METHODS = ["random", "best-of", "greedy", "swaps", "adversarial-norm", "adversarial-greedy"]
LOSSES = ["square", "cross-entropy"]
MOST_EXHAUSTIVE = 16
EXPONENT = ["exponent", "low", "high"]


def trained(law: Law, n_neurons: int, loss: str, options: argparse.Namespace, seed: int) -> Network:
    """Train one network with ReLU neurons."""
    for_weights, for_training = np.random.default_rng(seed).spawn(2)
    start = Network.init((law.dim, n_neurons, law.n_outputs), rng=for_weights)
    n_steps = round(options.horizon / options.step_size)
    return run_sgd(start, law, step_size=options.step_size, n_steps=n_steps, loss=loss, rng=for_training).final


def ladder(law: Law, n_neurons: int, options: argparse.Namespace, seed: int) -> pd.DataFrame:
    """Choose sets of 1, 2, 4, .. N/2 neurons in every way that the width allows."""
    network = trained(law, n_neurons, "square", options, seed)
    methods = [*METHODS, "exhaustive"] if n_neurons <= MOST_EXHAUSTIVE else METHODS
    sizes = 2 ** np.arange(int(np.log2(n_neurons)))
    return subset_ladder(network, law, sizes.tolist(), methods=methods, rng=seed).assign(seed=seed)


def quantiles(law: Law, n_neurons: int, loss: str, options: argparse.Namespace, seed: int) -> pd.DataFrame:
    """Draw random sets of 4, 8, .. N/4 neurons of a network trained by ``loss``."""
    network = trained(law, n_neurons, loss, options, seed)
    sizes = 2 ** np.arange(2, int(np.log2(n_neurons)) - 1)
    settings = {"quantiles": [0.95], "n_permutations": options.orders, "rng": seed}
    return dropout_quantiles(network, law, sizes.tolist(), loss=loss, **settings).assign(seed=seed, loss=loss)


def quantile_exponents(table: pd.DataFrame) -> pd.DataFrame:
    """Fit powers of m, the finite-population factor removed: its root from the std, all of it from the quantile."""
    depletion = table["n_kept"] * finite_population_factor(table["n_neurons"], table["n_kept"])
    values = table.assign(std_change=table["std_change"] / depletion**0.5, magnitude=table["magnitude"] / depletion)
    fits = [
        (loss, name, fit_exponent(rows["n_kept"], rows[column], rows["seed"]))
        for loss, rows in values.groupby("loss", sort=False)
        for column, name in (("std_change", "std"), ("magnitude", "95% quantile of |L_A - L|"))
    ]
    return pd.DataFrame(
        [{"loss": loss, "of": name, **{key: getattr(fit, key) for key in EXPONENT}} for loss, name, fit in fits]
    )


def main() -> None:
    """Parse the parameters, train, choose and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="a data set of classes")
    parser.add_argument("--widths", nargs="+", type=int, default=[16, 256], metavar="N", help="numbers of neurons")
    parser.add_argument("--seeds", type=int, default=4, help="replicas of each network, at least 2")
    parser.add_argument("--step-size", type=float, default=0.02, help="alpha")
    parser.add_argument("--horizon", type=float, default=20.0, help="time T = steps x alpha")
    parser.add_argument("--orders", type=int, default=400, help="random sets of each size")
    parser.add_argument("--output", default="results/kept-sets", help="folder of the results")
    options = parser.parse_args()

    law, seeds = law_of(options.data, "one-hot", None), range(options.seeds)
    ladders = pd.concat([ladder(law, n, options, seed) for n in options.widths for seed in seeds])
    random_sets = pd.concat([quantiles(law, max(options.widths), loss, options, s) for loss in LOSSES for s in seeds])
    tables = {"ladder-exponents": ladder_exponents(ladders), "quantile-exponents": quantile_exponents(random_sets)}
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in {"ladders": ladders, "quantiles": random_sets, **tables}.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    print(tables["ladder-exponents"][["n_neurons", "method", "n_points", *EXPONENT]].to_string(index=False, na_rep="-"))
    print(tables["quantile-exponents"].to_string(index=False))
    print("figures:", *save_figure(changes_by_choice(ladders, random_sets), folder, "kept-sets"), sep="\n  ")


if __name__ == "__main__":
    main()
