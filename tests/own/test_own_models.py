"""Models of the user's under the studies' probes: networks whose answers are known exactly, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from ontogeny.config import load_config
from ontogeny.errors import ConfigError
from ontogeny.files import Folder
from ontogeny.own import Examination, examine
from ontogeny.rooms import part, with_own_models
from ontogeny.settings import validate

P, N = 23, 400  # corrupted_grokking: modulus and neurons
D, H = 5, 2  # icl_regression: covariates and heads


def examination(study: str, model: dict[str, Any]) -> Examination:
    settings = validate(part(study, "own_settings").OwnSettings, model, "own.mine.model")
    found: Examination = part(study, "own").examine(settings, "cpu")
    return found


@pytest.fixture
def cosines(tmp_path: Path) -> dict[str, Any]:
    """The exact solution of modular addition (Gromov 2023), stored as layers on concatenated one-hot inputs."""
    stream = torch.Generator().manual_seed(0)
    frequency = torch.randint(1, (P + 1) // 2, (N,), generator=stream)
    first, second = torch.rand(2, N, generator=stream) * 2 * torch.pi
    angle = 2 * torch.pi * torch.outer(torch.arange(P), frequency) / P
    u, v, w = (angle + first).cos(), (angle + second).cos(), (angle + first + second).cos()
    save_file({"in.weight": torch.cat([u, v]).T.contiguous(), "out.weight": w}, tmp_path / "exact.safetensors")
    m, n = np.divmod(np.arange(0, P * P, 2), P)
    examples = pd.DataFrame({"m": m, "n": n, "label": (m + n) % P})
    examples.to_csv(tmp_path / "examples.csv", index=False)
    return {
        "modulus": P,
        "inputs": ["in.weight"],
        "readout": "out.weight",
        "activation": "square",
        "checkpoints": [{"step": 7, "file": str(tmp_path / "exact.safetensors")}],
        "examples": str(tmp_path / "examples.csv"),
    }


def test_the_exact_solution_of_modular_addition(cosines: dict[str, Any]) -> None:
    found = examination("corrupted_grokking", cosines)
    assert found.tables["neurons"]["ipr"].min() > 0.99
    assert found.tables["training"].iloc[0][["train_accuracy", "test_accuracy"]].tolist() == [1.0, 1.0]
    assert found.measured["c1"]["test"] == 1.0  # without corrupted labels every trained and generalising network counts
    ends = found.tables["pruning"].query("pruned_percent == 100")["test_accuracy"]
    assert (ends < 0.2).all()


def test_operands_may_have_matrices_of_their_own(cosines: dict[str, Any], tmp_path: Path) -> None:
    whole = examination("corrupted_grokking", cosines)
    stored = tmp_path / "exact.safetensors"
    from safetensors.torch import load_file

    both = load_file(stored)["in.weight"]
    split = {
        "u": both[:, :P].contiguous(),
        "v": both[:, P:].contiguous(),
        "out.weight": load_file(stored)["out.weight"],
    }
    save_file(split, tmp_path / "split.safetensors")
    model = {**cosines, "inputs": ["u", "v"], "checkpoints": [{"step": 7, "file": str(tmp_path / "split.safetensors")}]}
    pd.testing.assert_frame_equal(examination("corrupted_grokking", model).tables["neurons"], whole.tables["neurons"])


def test_without_training_pairs_only_spectra_are_measured(cosines: dict[str, Any]) -> None:
    found = examination("corrupted_grokking", {**cosines, "examples": None})
    assert list(found.tables) == ["neurons"] and found.measured == {}


@pytest.fixture
def linear(tmp_path: Path) -> dict[str, Any]:
    """Two layers on whitened inputs, trained by torch's SGD on MSELoss from small weights; checkpoints on the way."""
    stream = torch.Generator().manual_seed(1)
    x = torch.linalg.qr(torch.randn(64, 6, generator=stream)).Q * 64**0.5
    x = x - x.mean(0)
    x = torch.linalg.qr(x).Q * 64**0.5
    truth = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    y = x[:, :3] @ truth
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    net = torch.nn.Sequential(torch.nn.Linear(6, 3, bias=False), torch.nn.Linear(3, 3, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(0.03 * torch.eye(3, 6))
        net[1].weight.copy_(0.03 * torch.eye(3))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)
    checkpoints = []
    for step in range(1201):
        if step % 20 == 0:
            file = tmp_path / f"step-{step}.safetensors"
            save_file(net.state_dict(), file)
            checkpoints.append({"step": step, "file": str(file)})
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(net(x), y).backward()
        optimiser.step()
    layers = ["0.weight", "1.weight"]
    data = str(tmp_path / "data.npz")
    return {"data": data, "layers": layers, "learning_rate": 0.01, "loss": "mean", "checkpoints": checkpoints}


def test_modes_of_a_linear_network_grow_as_equation_12_says(linear: dict[str, Any]) -> None:
    found = examination("deep_linear", linear)
    modes = found.tables["modes"]
    np.testing.assert_allclose(modes["s"], [3, 2, 1], rtol=1e-4)
    np.testing.assert_allclose(modes["half_time"], modes["predicted_half_time"], rtol=0.03)
    assert abs(found.measured["c1"]["relative_delay"]) < 0.02
    assert found.measured["c2"]["rank_correlation"] == pytest.approx(-1)


def test_layers_that_do_not_fit_the_data_are_refused(linear: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"'1\.weight' takes 3 inputs, but is given 6"):
        examination("deep_linear", {**linear, "layers": ["1.weight", "0.weight"]})


@pytest.fixture
def attention(tmp_path: Path) -> dict[str, Any]:
    """Two heads with KQ = +-omega I and OV = +-mu on the label: for small omega debiased gradient descent."""
    omega, mu = 0.02, 25.0
    tensors = {}
    for head, sign in enumerate((1.0, -1.0)):
        tensors[f"{head}.q"] = torch.eye(D + 1)
        tensors[f"{head}.k"] = sign * omega * 3 * torch.diag(torch.tensor([1.0] * D + [0.0]))
        tensors[f"{head}.v"] = torch.eye(D + 1)
        tensors[f"{head}.o"] = sign * mu * torch.eye(D + 1)[-1:]
    save_file(tensors, tmp_path / "layer.safetensors")
    heads = [{"query": f"{h}.q", "key": f"{h}.k", "value": f"{h}.v", "output": f"{h}.o"} for h in range(H)]
    checkpoints = [{"step": 100, "file": str(tmp_path / "layer.safetensors")}]
    rest = {"kernel": "softmax", "scale": 1 / 3, "length": 40, "noise": 0.1, "checkpoints": checkpoints}
    return {"covariates": D, "heads": heads, **rest}


def test_two_opposite_heads_are_debiased_gradient_descent(attention: dict[str, Any]) -> None:
    found = examination("icl_regression", attention)
    heads = found.tables["heads"]
    np.testing.assert_allclose(heads["omega"], [0.02, -0.02], rtol=1e-5)
    np.testing.assert_allclose(heads["mu"], [25, -25], rtol=1e-5)
    assert found.measured["c1"] == pytest.approx({"diagonal_2": 1.0, "label_2": 1.0}, abs=1e-5)
    assert found.measured["c2"] == pytest.approx({"signs_2": 1.0, "variation_2": 0.0, "zero_sum_2": 0.0}, abs=1e-5)
    at_training = found.tables["distances"].query("length == 40").iloc[0]
    assert at_training["to_debiased_gd"] < 0.02 < at_training["to_kernel"]
    assert dict(found.facts)["kind of network"] == "split"


Change = Callable[[dict[str, Any]], dict[str, Any]]
BAD: dict[str, tuple[Change, str]] = {
    "no such file": (
        lambda m: {**m, "checkpoints": [{"step": 1, "file": "none.safetensors"}]},
        r"own\.mine\.model: there is no file 'none\.safetensors'",
    ),
    "a pickle": (
        lambda m: {**m, "checkpoints": [{"step": 1, "file": "model.pt"}]},
        r"checkpoints\.0\.file.*model\.pt may carry a pickle.*save_file",
    ),
    "a key that is not known": (lambda m: {**m, "modulo": 5}, r"own\.mine\.model\.modulo: unknown key.*'modulus'"),
    "no checkpoints": (lambda m: {**m, "checkpoints": []}, r"checkpoints"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_models_are_refused_before_any_job(name: str, cosines: dict[str, Any]) -> None:
    change, message = BAD[name]
    entry = {"study": "corrupted_grokking", "model": change(cosines)}
    with pytest.raises(ConfigError, match=message):
        load_config({"own": {"mine": entry}}, "config.yaml")


def test_a_study_that_examines_no_models_is_named(cosines: dict[str, Any]) -> None:
    assert "corrupted_grokking" in with_own_models()
    with pytest.raises(ConfigError, match=r"own\.mine\.study: 'corupted_grokking'.*'corrupted_grokking'"):
        load_config({"own": {"mine": {"study": "corupted_grokking", "model": cosines}}}, "config.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"readout": "head.weight"},
            r"no tensor 'head\.weight'\. It has: in\.weight \(400, 46\), out\.weight \(23, 400\)",
        ),
        ({"modulus": 29}, r"tensor 'in\.weight' has the shape \(400, 46\); no axis has modulus = 29"),
        ({"hidden_bias": "out.weight"}, r"'out\.weight'.*has the shape \(23, 400\); 400 is needed"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: dict[str, Any], message: str, cosines: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=message):
        examination("corrupted_grokking", {**cosines, **change})


def test_bad_examples_are_named(cosines: dict[str, Any], tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("m,n,label\n1,2,3\n1,40,3\n")
    with pytest.raises(ConfigError, match=r"bad\.csv: line 3: values lie in 0 \.\. 22"):
        examination("corrupted_grokking", {**cosines, "examples": str(bad)})
    bad.write_text("m,n\n1,2\n")
    with pytest.raises(ConfigError, match=r"lacks the columns \['label'\]"):
        examination("corrupted_grokking", {**cosines, "examples": str(bad)})


@pytest.mark.parametrize("study", ["corrupted_grokking", "deep_linear", "icl_regression"])
def test_findings_are_published_and_drawn(study: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue({"corrupted_grokking": "cosines", "deep_linear": "linear"}.get(study, "attention"))
    from ontogeny.stages.own_figures import draw

    examine("mine", study, model, "cpu", "a=b", tmp_path / "found")
    found = Folder(tmp_path / "found").json("findings.json")
    assert found["study"] == study and found["files"] and found["facts"]
    draw(study, tmp_path / "found", tmp_path / "figures")
    captions = Folder(tmp_path / "figures").json("captions.json")
    assert captions and all((tmp_path / "figures" / f"{name}.svg").stat().st_size > 0 for name in captions)
