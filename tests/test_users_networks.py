"""Networks of other libraries, exported by the lines on the page and joined by the command, stay what they are."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import run_command
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from meanfield import Network, WeightPath

PAGE = Path(__file__).parents[1] / "simulations" / "users_networks.md"
X, LABELS = load_iris(return_X_y=True)
X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
N_HIDDEN = (12, 8)
CLASSES = ["--target", "one-hot", "--loss", "cross-entropy"]
TO_FLOAT32 = {"rtol": 1e-5, "atol": 1e-5}


class Page:
    """The page's lines, executed in a folder, and the command run there."""

    def __init__(self, folder, monkeypatch, capsys):
        self.folder = folder
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.chdir(folder)

    def run(self, title, block=0, **names):
        """Execute a block of Python of the section ``title``."""
        section = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
        exec(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)[block], names)

    def connect(self, *options):
        """Join a.npz and b.npz on mine.npz; return the path that is saved."""
        arguments = ["a.npz", "b.npz", "--data", "mine.npz", "--output", "out", *options]
        done = run_command(self._monkeypatch, self._capsys, "connect", *arguments)
        assert (done.code, done.err) == (0, "")
        assert "barrier " in done.out
        return WeightPath.load(self.folder / "out" / "path.npz")

    def losses(self):
        """Return the loss along the path that is saved."""
        return pd.read_csv(self.folder / "out" / "risk.csv")


@pytest.fixture
def page(tmp_path, monkeypatch, capsys):
    return Page(tmp_path, monkeypatch, capsys)


def check_ends(page, path, outputs):
    """Compare both ends of the path, bit by bit, with the files, and their predictions with ``outputs``."""
    for end, name, expected in zip((path.vertices[0], path.vertices[-1]), "ab", outputs, strict=True):
        assert end == Network.load(page.folder / f"{name}.npz")
        with np.load(page.folder / f"{name}.npz") as arrays:
            for layer in range(3):
                assert np.array_equal(end.weights[layer], arrays[f"weight_{layer}"])
                assert np.array_equal(end.biases[layer], arrays[f"bias_{layer}"])
        assert end.dtype == np.float32
        np.testing.assert_allclose(end.predict(X), expected, **TO_FLOAT32)


def check_losses(page, expected):
    """Compare the losses of the ends with those that the libraries compute."""
    risks = page.losses()["risk"]
    np.testing.assert_allclose(risks.iloc[[0, -1]], expected, rtol=1e-5)
    assert risks.max() >= risks.iloc[[0, -1]].max()


def trained(kind, labels, seed, **options):
    model = kind(hidden_layer_sizes=N_HIDDEN, max_iter=60, random_state=seed, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, labels)


def logits(model, x):
    """The outputs of a scikit-learn network before its last function, by its own words."""
    activation = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}[model.activation]
    h = x
    for W, b in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        h = activation(h @ W + b)
    return h @ model.coefs_[-1] + model.intercepts_[-1]


def softmax(z):
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_classifiers_of_scikit_learn(page, activation):
    models = [trained(MLPClassifier, LABELS, seed, activation=activation) for seed in (1, 2)]
    page.run("scikit-learn", first=models[0], second=models[1])
    page.run("The data", x=X, labels=LABELS)
    path = page.connect(*CLASSES)
    check_ends(page, path, [logits(model, X) for model in models])
    for end, model in zip((path.vertices[0], path.vertices[-1]), models, strict=True):
        np.testing.assert_allclose(softmax(end.predict(X)), model.predict_proba(X), **TO_FLOAT32)
    chances = [model.predict_proba(X)[np.arange(len(X)), LABELS] for model in models]
    check_losses(page, [-np.log(chance).mean() for chance in chances])
    errors = page.losses()["classification_error"].iloc[[0, -1]]
    np.testing.assert_allclose(errors, [1 - model.score(X, LABELS) for model in models], atol=1e-12)


def test_a_classifier_of_two_classes_has_one_output(page):
    labels = np.where(LABELS == 2, "other", "iris")
    models = [trained(MLPClassifier, labels, seed) for seed in (1, 2)]
    page.run("scikit-learn", first=models[0], second=models[1])
    page.run("The data", block=1, x=X, labels=np.searchsorted(models[0].classes_, labels))
    path = page.connect("--loss", "logistic")
    check_ends(page, path, [logits(model, X) for model in models])
    chances = [model.predict_proba(X)[:, 1] for model in models]
    for end, chance in zip((path.vertices[0], path.vertices[-1]), chances, strict=True):
        np.testing.assert_allclose(1 / (1 + np.exp(-end.predict(X)[:, 0])), chance, **TO_FLOAT32)
    second = labels == models[0].classes_[1]
    check_losses(page, [-np.log(np.where(second, chance, 1 - chance)).mean() for chance in chances])


def test_regressors_of_scikit_learn(page):
    models = [trained(MLPRegressor, X[:, 0], seed) for seed in (1, 2)]
    page.run("scikit-learn", first=models[0], second=models[1])
    np.savez("mine.npz", x=X, y=X[:, 0])
    path = page.connect()
    check_ends(page, path, [model.predict(X)[:, np.newaxis] for model in models])
    check_losses(page, [np.mean((model.predict(X) - X[:, 0]) ** 2) for model in models])


# Of the library and its own dependencies.
@pytest.mark.filterwarnings("ignore")
def test_networks_of_pytorch(page):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    x, labels = torch.from_numpy(X), torch.from_numpy(LABELS).long()
    models = [_trained_by_torch(torch, x, labels, seed) for seed in (1, 2)]
    page.run("PyTorch", first=models[0], second=models[1])
    page.run("The data", x=X, labels=LABELS)
    path = page.connect(*CLASSES)
    with torch.no_grad():
        outputs = [model(x) for model in models]
        losses = [float(torch.nn.functional.cross_entropy(output, labels)) for output in outputs]
    check_ends(page, path, [output.numpy() for output in outputs])
    check_losses(page, losses)
    assert max(losses) < 0.5


def _trained_by_torch(torch, x, labels, seed):
    torch.manual_seed(seed)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimiser.step()
    return model.eval()


@pytest.mark.filterwarnings("ignore")
def test_networks_of_jax(page):
    jax = pytest.importorskip("jax")
    one_hot = np.eye(3, dtype=np.float32)[LABELS]

    def outputs(params):
        h = X
        for W, b in params[:-1]:
            h = jax.nn.relu(h @ W + b)
        return h @ params[-1][0] + params[-1][1]

    def loss(params):
        return -(one_hot * jax.nn.log_softmax(outputs(params))).sum(axis=1).mean()

    gradient = jax.jit(jax.grad(loss))
    models = [_trained_by_jax(jax, gradient, seed) for seed in (1, 2)]
    page.run("JAX", first=models[0], second=models[1])
    page.run("The data", x=X, labels=LABELS)
    path = page.connect(*CLASSES)
    check_ends(page, path, [np.asarray(outputs(params)) for params in models])
    check_losses(page, [float(loss(params)) for params in models])


def _trained_by_jax(jax, gradient, seed):
    rng = np.random.default_rng(seed)
    shapes = [(4, 12), (12, 8), (8, 3)]
    arrays = [(rng.standard_normal(shape) / shape[0] ** 0.5, np.zeros(shape[1])) for shape in shapes]
    params = jax.tree.map(lambda array: jax.numpy.asarray(array, jax.numpy.float32), arrays)
    for _ in range(60):
        params = jax.tree.map(lambda w, g: w - 0.3 * g, params, gradient(params))
    return params
