from __future__ import annotations

import io

from yolofpn.training.step_report import FIRST_LINE_SECONDS, LINE_SECONDS, StepReport


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    lines: list[str] = []
    now = 0.0
    report = StepReport(lines.append, io.StringIO(), lambda: now)
    report.start(1, 10, 100)
    times = []
    for _ in range(100):
        now += 1.0
        before = len(lines)
        report.step(8, {"loss_box": 1.0, "loss_class": 0.5})
        times += [now] * (len(lines) - before)
    report.close()
    assert times[0] == FIRST_LINE_SECONDS <= 15
    assert times[1] - times[0] == LINE_SECONDS == 30
    assert lines[0].startswith("epoch 1/10: step 10 of 100, 8.0 images/s, loss 1.500 (box 1.000 class 0.500)")
    assert "90 s of the epoch" in lines[0] and "16 min of the run" in lines[0]


def test_a_resumed_epoch_counts_its_own_steps_only() -> None:
    lines: list[str] = []
    now = 0.0
    report = StepReport(lines.append, None, lambda: now)
    report.start(2, 2, 100, done=80)
    for _ in range(10):
        now += 1.0
        report.step(4, {"loss": 1.0})
    assert "step 90 of 100, 4.0 images/s" in lines[0] and "10 s of the epoch" in lines[0]


def test_in_a_terminal_there_is_a_bar() -> None:
    lines: list[str] = []
    screen = Terminal()
    report = StepReport(lines.append, screen)
    report.start(3, 4, 2)
    report.step(8, {"loss_box": 2.0})
    report.step(8, {"loss_box": 2.0})
    report.close()
    assert not lines and "epoch 3/4" in screen.getvalue() and "images/s" in screen.getvalue()
