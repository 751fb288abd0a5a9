from __future__ import annotations

from contralign.decoding import parse
from contralign.eval import missing_baselines, with_baselines


def test_missing_baselines_are_put_in_front() -> None:
    decodings = [parse(name) for name in ("cutoff-only:cutoff=0.3", "sample", "dola")]
    assert [one.label for one in missing_baselines(decodings)] == ["greedy"]
    assert with_baselines(decodings)[1:] == decodings
    assert missing_baselines(with_baselines([parse("dola")])) == []
    sampled = [parse(name) for name in ("greedy", "sample", "cutoff-only@sample")]
    assert missing_baselines(sampled) == []
