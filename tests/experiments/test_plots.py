"""Plots: a PNG for every history that a run can have, with ticks that read as numbers."""

import pytest

from kfqn_ref.experiments.plots import log_losses, new_figure, plot_run, whole_epochs


def record(epoch: int, loss: float | None, error: float | None) -> dict:
    return {
        "epoch": epoch,
        "train_loss": loss,
        "test_loss": loss,
        "train_error": error,
        "test_error": error,
    }


@pytest.mark.parametrize(
    "history",
    [
        [record(1, 2.0, 0.5)],
        [record(1, 2.0, None), record(2, 1.0, None)],
        [record(1, 2.0, 0.5), record(2, None, 0.9)],
        [record(1, None, None)],
        [record(1, 0.0, 0.0)],
    ],
)
def test_every_history_can_be_drawn(tmp_path, history):
    plot_run(history, "a run", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_ticks_read_as_whole_epochs_and_plain_losses():
    figure, (axis,) = new_figure(1)
    axis.plot([1, 2, 3], [0.9, 0.3, 0.2])
    log_losses(axis)
    whole_epochs(axis)
    figure.draw_without_rendering()
    assert all(float(tick) % 1 == 0 for tick in axis.get_xticks())
    texts = [label.get_text() for label in axis.get_yticklabels(minor=True) if label.get_text()]
    assert "0.3" in texts
