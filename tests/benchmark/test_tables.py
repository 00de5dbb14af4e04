from __future__ import annotations

from typing import Any

from benchmarking.tables import speed_table, table, training_table


def speed_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "weights": "a.weights", "backend": "openvino", "precision": "bf16", "img_size": [320, 416], "batch_size": 1,
        "slots": 2, "gflop": 65.86, "network_ms": 33.333, "network_fps": 30.0, "best_network_fps": 31.06,
        "end_to_end_fps": 27.0, "best_end_to_end_fps": 28.0, "share_of_network": 0.9, "share_of_peak": None,
        "peak_memory": {"process_mb": 812.4}, "ap": {},
    }  # fmt: skip
    return row | changes


def test_a_table_is_markdown_and_aligned() -> None:
    assert table(["a", "long"], [["12345", "x"]]).splitlines() == [
        "| a     | long |",
        "| ----- | ---- |",
        "| 12345 | x    |",
    ]


def test_speed() -> None:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in speed_table([speed_row()]).splitlines()]
    assert dict(zip(lines[0], lines[2], strict=True)) == {
        "weights": "a.weights", "backend": "openvino", "precision": "bf16", "input": "320x416", "batch": "1",
        "in flight": "2", "GFLOP": "65.9", "network ms": "33.33", "FPS (best)": "30.0 (31.1)",
        "end to end FPS (best)": "27.0 (28.0)", "of network": "90%", "of peak": "", "MB": "812",
    }  # fmt: skip


def test_the_workload_is_named_where_rows_differ_in_it() -> None:
    rows = [speed_row(workload="many"), speed_row(workload="live")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in speed_table(rows).splitlines()]
    assert [line[5] for line in cells] == ["workload", "-" * 8, "many", "live"]
    assert "workload" not in speed_table(rows[:1])


def test_ap_has_columns_only_where_it_was_measured() -> None:
    baseline = speed_row(backend="opencv", gflop=None, end_to_end_fps=None, share_of_network=None)
    lines = speed_table([speed_row(ap={"AP": 0.2467, "AP50": 0.4461}), baseline]).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0][-2:] == ["AP", "AP50"] and cells[2][-2:] == ["0.247", "0.446"] and cells[3][-2:] == ["", ""]
    assert "AP" not in speed_table([baseline])


def test_a_loss_that_is_no_number_stands_out() -> None:
    row: dict[str, Any] = {
        "model": "m", "data": "d", "precision": "bf16", "img_size": [416, 416], "batch_size": 8,
        "images_per_second": {"training": 20.0}, "best_images_per_second": {"training": 21.0}, "share_of_network": 0.8,
        "loader_share": 0.95, "peak_memory": {"process_mb": 1000}, "first_loss": 10.0, "last_loss": float("nan"),
        "losses_finite": False,
    }  # fmt: skip
    text = training_table([row])
    assert "10.00 -> nan NOT FINITE" in text and "20.0 (21.0)" in text and "80%" in text
