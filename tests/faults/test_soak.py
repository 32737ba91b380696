"""Four processes search while one writes: every reader sees one batch, whole, and no older one than
was committed before it looked.

It lasts 10 seconds; `CATALENS_SOAK_SECONDS=60` makes it as long as you like.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.processes import run_module

SECONDS = float(os.environ.get("CATALENS_SOAK_SECONDS", "10"))


def test_readers_see_whole_batches(tmp_path: Path) -> None:
    done = run_module("tests.faults.soak", tmp_path, SECONDS, timeout=SECONDS + 120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["problems"] == []
    assert told["writer"]["batches"] >= 4 and told["writer"]["compactions"] >= 1
    assert len(told["readers"]) == 4
    for reader in told["readers"]:
        assert reader["searches"] >= 15 and reader["moves"] >= 1
