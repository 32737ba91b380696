"""The README's Python, run as a reader would run it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

README = Path(__file__).parent.parent / "README.md"
COLOURS = ("red", "green", "blue", "black", "white", "brown")


def catalog(folder: Path) -> None:
    """What the README's example assumes to be there."""
    with (folder / "catalog.jsonl").open("w") as file:
        for number in range(30):
            colour = COLOURS[number % len(COLOURS)]
            Image.new("RGB", (64, 48), colour).save(folder / f"{number}.png")
            row = {
                "sku": f"sku-{number}",
                "title": f"{colour} shoe",
                "description": f"A {colour} shoe of leather, model {number}",
                "photo": f"{number}.png",
                "price": 20 + 5 * number,
            }
            file.write(json.dumps(row) + "\n")
    Image.new("RGB", (64, 48), "red").save(folder / "photo.jpg")


def test_ten_lines_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog(tmp_path)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    found, score = capsys.readouterr().out.split()[:2]
    assert found in {"sku-0", "sku-6", "sku-12"}, "the best hit is a red shoe under 100"
    assert float(score) > 0
