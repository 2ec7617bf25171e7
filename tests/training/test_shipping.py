"""What the exports of priors share."""

from pathlib import Path

import pytest
import torch

import shipping


def test_an_export_fills_a_card_and_a_page_and_nothing_else_of_them(tmp_path: Path) -> None:
    # Catches: words that an export writes over, numbers that find no place and are left out without a word.
    (tmp_path / "run").mkdir()
    torch.save({"ema": {"w": torch.ones(2)}}, tmp_path / "run" / "checkpoint.pt")
    (tmp_path / "card.toml").write_text('name = "a"\nsha256 = "0"\nnotes = "by hand"\n')
    page = tmp_path / "README.md"
    page.write_text("By hand.\n<!-- made -->\nold\n<!-- /made -->\nToo.\n")
    sha256 = shipping.write_network(tmp_path / "run", tmp_path, kind="unet")
    assert (
        tmp_path / "card.toml"
    ).read_text() == f'name = "a"\nsha256 = "{sha256}"\nnotes = "by hand"\n'
    shipping.write_page(tmp_path, {"seen": "8"}, sha256)
    table = f"|  |  |\n| --- | --- |\n| seen | 8 |\n| weights | half precision, sha256 {sha256} |"
    assert page.read_text() == f"By hand.\n<!-- made -->\n\n{table}\n\n<!-- /made -->\nToo.\n"
    with pytest.raises(ValueError, match="has no <!-- curve -->"):
        shipping.write_page(tmp_path, {}, sha256, curve="1")


@pytest.mark.parametrize("count", [1, 2, 9, 11, 60])
def test_a_curve_ends_with_the_last_row_and_is_short(count: int) -> None:
    # Catches: eleven rows of eleven, a last row twice.
    log = [{"seen": k, "error": {"a": [k / 4]}} for k in range(count)]
    lines = shipping.curve(log, "crops", ["1"], "error", "a", digits=2).splitlines()[2:]
    assert len(lines) <= 9 and len(set(lines)) == len(lines)
    assert lines[-1] == f"| {count - 1} | {(count - 1) / 4:.2f} |"
