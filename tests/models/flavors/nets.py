"""Nets of PyTorch, where it is installed: it is no part of what the tests set up, since its packages for Linux are large."""

from __future__ import annotations

from typing import Any

import mlflow.pytorch
import numpy as np
import pandas as pd
from mlflow.models import infer_signature

from tests.models.flavors.case import Case, Entry, logger, numbers

CLOSE = 1e-5


def trained(*layers: Any) -> Any:
    """A net, trained a few steps so that its weights are no round numbers."""
    import torch

    torch.manual_seed(7)
    torch.set_num_threads(1)
    model = torch.nn.Sequential(*layers)
    x = torch.tensor(numbers().to_numpy(np.float32))
    steps = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(5):
        steps.zero_grad()
        model(x).square().mean().backward()
        steps.step()
    return model.eval()


def net(last: str, stored: str, tensor: bool) -> Case:
    """`stored`: pickle, as MLflow does by default, or pt2, a graph that torch.export has traced."""
    import torch

    x = numbers().astype(np.float32)
    ends = {"number": [torch.nn.Linear(4, 1)], "softmax": [torch.nn.Linear(4, 3), torch.nn.Softmax(dim=1)]}[last]
    model = trained(torch.nn.Linear(2, 4), torch.nn.ReLU(), *ends)
    with torch.no_grad():
        answers = model(torch.tensor(x.to_numpy())).numpy()
    given = x.to_numpy() if tensor else x
    more = (
        {"input_example": given[:3], "serialization_format": "pt2"}
        if stored == "pt2"
        else {"serialization_format": stored}
    )
    log = logger(
        mlflow.pytorch.log_model,
        model,
        "torch",
        signature=infer_signature(given, answers if tensor else pd.DataFrame(answers)),
        **more,
    )
    job: dict[str, Any] = {"model": {"trust": ["pickle" if stored == "pickle" else "python_function"]}}
    if tensor:
        job["features"] = {"tensor": list(x.columns)}
    if last == "number":
        native = {"prediction": answers[:, 0]}
        job["predictions"] = {"prediction": {"output": 0}}
    else:
        native = {f"p{n}": answers[:, n] for n in range(3)}
        job["predictions"] = {name: {"output": n} for n, name in enumerate(native)}
    return Case(log, x, native, job, close=CLOSE, given=given if tensor else None,
                result_type="float" if last == "number" else "array<float>")  # fmt: skip


ENTRIES = [
    Entry("pytorch", "floats", "a number, of a pickle", lambda: net("number", "pickle", False), "torch"),
    Entry("pytorch", "floats", "a softmax, of a pickle", lambda: net("softmax", "pickle", False), "torch"),
    Entry("pytorch", "a tensor", "a softmax, of a pickle", lambda: net("softmax", "pickle", True), "torch"),
    Entry("pytorch", "a tensor", "a number, of an exported graph", lambda: net("number", "pt2", True), "torch"),
]  # fmt: skip
