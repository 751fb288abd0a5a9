"""Facts about the machine, without those that are nobody's business."""

from __future__ import annotations

import json
import platform

import torch

from contralign.eval.machine import machine, versions


def test_the_facts_are_json_and_do_not_name_the_host() -> None:
    facts = machine()
    text = json.dumps(facts)
    assert facts["cores"] >= 1
    assert facts["threads"] == torch.get_num_threads()
    assert len(facts["accelerators"]) == torch.cuda.device_count()
    assert not platform.node() or platform.node() not in text


def test_versions_are_those_that_run() -> None:
    found = versions()
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()
