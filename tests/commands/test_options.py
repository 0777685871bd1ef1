"""Help lists the names that the package knows, and lists of numbers are read as they are meant."""

from __future__ import annotations

import pytest
from typer.main import get_command

from meanfield.cli import app
from meanfield.commands import options
from meanfield.commands.options import any_of, integers, words
from meanfield.landscape.kept_sets import SECOND_KEEPS
from meanfield.model.activations import ACTIVATIONS
from meanfield.model.datasets import DATASETS, SPLITS, TABLE_TYPES
from meanfield.model.losses import LOSSES
from meanfield.studies import connect as study
from meanfield.studies.dropout_multilayer import SETTINGS

COMMANDS = get_command(app).commands
STUDIES = COMMANDS["run"].commands
NAMED = {
    "activation": ACTIVATIONS,
    "data": (*DATASETS, *TABLE_TYPES),
    "dtype": ("float64", "float32"),
    "loss": LOSSES,
    "second_keeps": SECOND_KEEPS,
    "settings": SETTINGS,
    "split": SPLITS,
    "target": ("one-hot", "sign", "value"),
}
PARAMETERS = [
    pytest.param(parameter, id=f"{command.name} {parameter.name}")
    for command in (COMMANDS["connect"], *STUDIES.values())
    for parameter in command.params
]


@pytest.mark.parametrize(
    ("written", "known"),
    [
        (options.ACTIVATIONS, ACTIVATIONS),
        (options.DATA_SETS, DATASETS),
        (options.KEPT, study.KEPT),
        (options.LOSSES, LOSSES),
        (options.SECOND_KEEPS, SECOND_KEEPS),
        (options.SETTINGS, SETTINGS),
        (options.SPLITS, SPLITS),
    ],
)
def test_the_names_written_out_are_those_of_the_package(written, known):
    assert written == known


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_help_says_what_an_option_is_and_lists_the_names_that_it_takes(parameter):
    assert parameter.help.endswith(".")
    for name in NAMED.get(parameter.name, ()):
        assert name in parameter.help


def test_help_lists_all_ways_to_choose_kept_neurons():
    (kept,) = (parameter for parameter in COMMANDS["connect"].params if parameter.name == "kept")
    assert any_of(study.KEPT) in kept.help


@pytest.mark.parametrize("command", STUDIES.values(), ids=STUDIES.keys())
def test_help_says_how_long_a_study_takes_and_that_it_resumes(command):
    assert "of processor time with the defaults. Finished runs are kept" in command.epilog


@pytest.mark.parametrize("study", ["dropout", "dropout-bounds", "connectivity"])
def test_gaussians_are_listed_where_they_can_be_learnt(study):
    (data,) = (parameter for parameter in STUDIES[study].params if parameter.name == "data")
    assert data.help.startswith("gaussians, ")


def test_names_are_said_as_a_choice():
    assert any_of(["one"]) == "one"
    assert any_of(["one", "two", "three"]) == "one, two or three"


def test_words_and_integers_stand_between_commas():
    assert words(" a,b , ,c") == ["a", "b", "c"]
    assert integers("n-kept", "16, 32") == [16, 32]
    with pytest.raises(ValueError, match=r"^n-kept must be integers separated by commas, got '16 32'$"):
        integers("n-kept", "16 32")
