"""benchmarks.classes: what it measures, on small inputs."""

from __future__ import annotations

import pytest
import torch

from benchmarks.classes import inference_calls, measure, step_calls, table

CPU = torch.device("cpu")


@pytest.mark.slow
def test_cost_by_number_of_classes():
    classes = (3, 41)
    rows = measure(step_calls, classes, CPU, batch=2, size=33)
    rows += measure(inference_calls, classes, CPU, image=(64, 48))
    by_what: dict[str, list[dict]] = {}
    for row in rows:
        by_what.setdefault(row["what"], []).append(row)
    assert len(by_what) == 5
    for pair in by_what.values():
        assert [row["classes"] for row in pair] == [3, 41]
        assert all(row["seconds"] > 0 and row["mb"] > 0 for row in pair)
    # the logits are 14 times as many; without convolutions their share shows
    rest = [pair for what, pair in by_what.items() if "convolutions" in what]
    assert len(rest) == 2 and all(few["mb"] < many["mb"] for few, many in rest)
    # two objects, whatever number of classes there is
    few, many = by_what["its CRF"]
    assert many["mb"] < 5 * few["mb"]
    lines = table(rows).splitlines()
    assert len(lines) == 2 + 5 and lines[0] == "| what | 3 classes | 41 classes |"
