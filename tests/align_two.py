"""One of several processes that train together: `align_two.py FOLDER KEY=JSON ...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from align_runs import logged, rows, trainer


def main(folder: str, *options: str) -> None:
    given = dict(word.split("=", 1) for word in options)
    run = trainer(
        folder,
        train_dataset=rows(21),
        eval_dataset=rows(7, seed=1),
        **{name: json.loads(value) for name, value in given.items()},
    )
    evaluated = run.evaluate()
    run.train()
    run.save_model()
    if run.is_world_process_zero():
        found = {name: logged(run, name) for name in ("loss", "grad_norm", "rewards/margins", "kl")}
        found["num_tokens"] = logged(run, "num_tokens")
        found["eval"] = {
            k: v for k, v in evaluated.items() if "runtime" not in k and "second" not in k
        }
        Path(folder, "found.json").write_text(json.dumps(found))
    run.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
