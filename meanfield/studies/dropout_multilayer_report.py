"""What the study of several hidden layers says: tables, figures and the verdict in words, from its records alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from meanfield.plots import dropout_multilayer as plots
from meanfield.plots.bounds import bounds_against_kept
from meanfield.studies.dropout_bounds_tables import THEOREM
from meanfield.studies.dropout_multilayer import (
    SETTINGS,
    MultilayerRun,
    cost,
    memory,
    one_run,
    unmet_assumptions,
)
from meanfield.studies.dropout_multilayer_tables import HeldTheorem, exponents_at_half, gaps_at_half, held_theorem
from meanfield.studies.dropped_layers import ALL_LAYERS, DELTA
from meanfield.studies.report import LAYERS, Report, Study, diverged_runs, exponent_in_words, plus_minus
from meanfield.studies.store import Store
from meanfield.theory.prefactor import describe_checked
from meanfield.theory.scaling import ExponentFit, compare_with_margin, rejects, settled_from
from meanfield.theory.seeds import mean_over_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STUDY", "report"]

NAMES = {
    "all": "all layers trained",
    "internal": "internal layers trained, ends frozen",
    "control": "control, standard scaling",
}
LEAST_MOVEMENT = 0.01
MARGIN = 0.1  # fixed before the values were seen
LEGEND = (
    "+- is half the 90% Student interval over seeds; the test error is the fraction of held-out samples put in the "
    "wrong class; the gap is E_A[L_A] - L, half of the neurons kept in the layers named; N times the gap is it without "
    f"the factor (N - m)/(m (N - 1)), c_N of the last hidden layer; {LAYERS}."
)
DEGENERATE = (
    "Three hidden layers: weights start independent and no neuron has a bias, so that in the limit of wide layers the "
    "weights of one layer evolve independently of the others' (Nguyen & Pham 2020): a special case of deep networks."
)
NOT_REFUTED = (
    "The theorem bounds the change from above: one that falls faster, or does not follow sqrt(d/A_min), agrees with "
    "it. With wide intervals little is refuted: --orders narrows them."
)


class _Group(NamedTuple):
    """The finished runs of one depth and setting, and their frames."""

    run: MultilayerRun
    n_lost: int
    summary: pd.DataFrame
    curve: pd.DataFrame
    movement: pd.DataFrame
    gaps: pd.DataFrame


def report(store: Store, runs: Sequence[MultilayerRun]) -> Report:
    """Read the finished ``runs`` back and conclude; diverged ones are named and left out."""
    diverged = diverged_runs(store, runs)
    named = [f"{_title(run)}: {word}" for run, word in diverged.items()]
    finished = [run for run in runs if run not in diverged]
    if not finished:
        return Report({}, {}, pd.DataFrame(), named)
    groups = list(_groups(store, finished, diverged))
    frames = {name: pd.concat([getattr(group, name) for group in groups], ignore_index=True) for name in FRAMES}
    exponents = exponents_at_half(frames["gaps"])
    held = {(group.run.n_hidden, group.run.setting): _held(group) for group in groups}
    words = [line for group in groups for line in _verdict(group, held[group.run.n_hidden, group.run.setting])]
    tables = {**frames, "exponents": exponents, **_checked_tables(held)}
    figures = _figures(frames, groups, held)
    deep = [DEGENERATE] if any(run.n_hidden > 2 for run in finished) else []
    return Report(tables, figures, _short(frames), [*words, LEGEND, *deep, NOT_REFUTED, *named])


STUDY = Study("dropout-multilayer", one_run, cost, memory, report)

FRAMES = ("summary", "curve", "movement", "gaps")


def _title(run: MultilayerRun) -> str:
    return f"{_kind(run)}, N = {run.n_neurons}, seed {run.seed}"


def _kind(run: MultilayerRun) -> str:
    return f"{Path(run.data).name}, {run.n_hidden} hidden layers, {NAMES[run.setting]}"


def _groups(store: Store, finished: Sequence[MultilayerRun], diverged: dict[MultilayerRun, str]) -> Iterator[_Group]:
    places = {(run.n_hidden, SETTINGS.index(run.setting)) for run in finished}
    for n_hidden, place in sorted(places):
        here, lost = (
            [run for run in runs if (run.n_hidden, run.setting) == (n_hidden, SETTINGS[place])]
            for runs in (finished, diverged)
        )
        summary, curve, movement = (store.frames(name, here) for name in ("summary", "curve", "movement"))
        yield _Group(here[0], len(lost), summary, curve, movement, gaps_at_half(curve))


def _held(group: _Group) -> HeldTheorem | str:
    """Return the theorem's form held against one group, or why it is not."""
    if group.run.setting == "control":
        return "standard scaling is none of the theorem's"
    try:
        return held_theorem(group.run, group.curve, group.gaps)
    except ValueError as error:
        return str(error)


def _checked_tables(held: dict[tuple[int, str], HeldTheorem | str]) -> dict[str, pd.DataFrame]:
    parts = [
        one.checked.assign(n_hidden=n_hidden, setting=setting, prefactor=one.theorem.fit.prefactor)
        for (n_hidden, setting), one in held.items()
        if isinstance(one, HeldTheorem)
    ]
    return {"theorem": pd.concat(parts, ignore_index=True)} if parts else {}


def _figures(
    frames: dict[str, pd.DataFrame], groups: Sequence[_Group], held: dict[tuple[int, str], HeldTheorem | str]
) -> dict[str, Figure]:
    drawn = {"change-at-half": plots.change_at_half(frames["gaps"], titles=NAMES)}
    for n_hidden, curve in frames["curve"].groupby("n_hidden"):
        drawn[f"change-against-kept-{n_hidden}-hidden"] = plots.change_against_kept(curve, titles=NAMES)
    for group in groups:
        one = held[group.run.n_hidden, group.run.setting]
        if isinstance(one, HeldTheorem):
            drawn[f"bound-{group.run.n_hidden}-hidden-{group.run.setting}"] = _bound_figure(group, one)
    return drawn


def _bound_figure(group: _Group, held: HeldTheorem) -> Figure:
    """Draw the first replica, all layers at once, beside the fitted form."""
    curve = group.curve[(group.curve["dropped"] == ALL_LAYERS) & (group.curve["seed"] == group.run.seed)]
    value = held.theorem.fit.bound(curve["n_kept"], curve["n_neurons"])
    bounds = curve[["n_neurons", "n_kept"]].assign(bound=THEOREM, value=value, delta=DELTA)
    title = f"theorem's form, {group.run.n_hidden} hidden layers,\n{NAMES[group.run.setting]}"
    return bounds_against_kept(curve, bounds, titles={THEOREM: title}, fitted=held.theorem.fit)


def _short(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the table to print: a row a network, mean +- half width."""
    keys = ["n_hidden", "setting", "n_neurons"]
    columns = {name: _column(frames["summary"], keys, name) for name in ("risk", "test_error")}
    by_layer = {str(dropped): rows for dropped, rows in frames["gaps"].groupby("dropped")}
    for dropped in sorted(by_layer, key=lambda name: (name == ALL_LAYERS, name)):
        columns[f"gap, {dropped}"] = _column(by_layer[dropped], keys, "half_change")
    columns["N x gap"] = _column(by_layer[ALL_LAYERS], keys, "scaled_gap")
    names = {"n_hidden": "hidden layers", "n_neurons": "N", "test_error": "test error"}
    table = pd.DataFrame(columns).fillna("-").replace("nan", "-")
    return table.sort_index(key=_in_order).reset_index().rename(columns=names)


def _in_order(level: pd.Index) -> pd.Index:
    return level.map(SETTINGS.index) if level.name == "setting" else level


def _column(rows: pd.DataFrame, keys: list[str], name: str) -> pd.Series:
    means = mean_over_seeds(rows, keys, name).set_index(keys)
    return pd.Series([plus_minus(*pair) for pair in means.itertuples(index=False)], index=means.index, dtype=object)


def _verdict(group: _Group, held: HeldTheorem | str) -> Iterator[str]:
    run = group.run
    how = f"{run.activation}, step size {run.step_size:g}, {run.n_steps} steps of {run.batch_size}"
    yield f"{_kind(run)}: {how}"
    yield f"  {_learnt(group)}"
    yield from _tested(group)
    if group.n_lost:
        yield f"  the gap is not judged: {group.n_lost} networks diverged, see below"
        return
    for dropped, gaps in group.gaps.groupby("dropped", sort=False):
        yield f"  gap, {dropped}: {exponent_in_words(gaps, 'n_neurons', 'half_change', 'N', _fall)}"
    whole = group.gaps[group.gaps["dropped"] == ALL_LAYERS]
    if run.setting == "control":
        yield f"  N times the gap, {ALL_LAYERS}: {exponent_in_words(whole, 'n_neurons', 'scaled_gap', 'N', _growth)}"
        return
    yield f"  N times the gap, {ALL_LAYERS}: {_settling(whole)}"
    yield f"  theorem's form on |L_A - L|: {_on_theorem(held)}"
    yield f"    unmet of its setting: {', '.join(unmet_assumptions(run))}"


def _learnt(group: _Group) -> str:
    """Say what training did to the loss and to the weights of each layer at the largest width."""
    widest = group.summary["n_neurons"].max()
    summary, moved = (rows[rows["n_neurons"] == widest] for rows in (group.summary, group.movement))
    by_layer = moved.groupby("weights")["relative_change"].mean()
    head = "" if by_layer.max() >= LEAST_MOVEMENT else "NOTHING IS LEARNT: "
    changes = ", ".join(f"weights[{layer}] by {change:.2g}" for layer, change in by_layer.items())
    before, after = (summary[name].mean() for name in ("initial_risk", "risk"))
    losses = f"at N = {widest} the loss went from {before:.3g} to {after:.3g}"
    return f"{head}{losses}; moved, in units of their size: {changes}"


def _tested(group: _Group) -> Iterator[str]:
    """Say the fraction of held-out samples put in the wrong class, width by width; nothing without classes."""
    means = mean_over_seeds(group.summary, "n_neurons", "test_error")
    errors = [f"{plus_minus(mean, half)} at N = {n}" for n, mean, half in means.itertuples(index=False)]
    if errors:
        yield f"  test error after {group.run.n_steps} steps: {', '.join(errors)}"


def _fall(fit: ExponentFit) -> str:
    below = f"wholly below -{MARGIN:g}"
    if rejects(fit, MARGIN) and fit.high < 0:
        return f"falls with N: {fit.describe()}, {below}"
    return f"NOT shown to fall with N: {fit.describe()}, not {below}"


def _settling(gaps: pd.DataFrame) -> str:
    try:
        verdict = settled_from(gaps["n_neurons"], gaps["scaled_gap"], gaps["seed"], margin=MARGIN)
    except ValueError as error:
        return f"not judged: {error}"
    faster = "; the gap falls faster than 1/N" if verdict.fit.high < -verdict.margin else ""
    return f"{verdict.describe().replace('x in', 'N in')}{faster}"


def _growth(fit: ExponentFit) -> str:
    rejected = rejects(fit, MARGIN) and fit.low > 0
    word = "grows, as it must: that it settles is rejected" if rejected else "NOT shown to grow"
    return f"{word}; {compare_with_margin(fit, MARGIN)}"


def _on_theorem(held: HeldTheorem | str) -> str:
    if isinstance(held, str):
        return f"not judged: {held}"
    fit, rows = held.theorem.fit, held.checked
    worst = rows.sort_values("ratio").iloc[-1]
    return (
        f"{describe_checked(rows)}; at worst {worst['ratio']:.2g} of the bound at N = {worst['n_neurons']:.0f}, "
        f"A_min = {worst['n_kept']:.0f}; prefactor {fit.prefactor:.3g} fitted at N = {fit.n_neurons}, "
        f"A_min = {fit.n_kept}: {held.theorem.reason}"
    )
