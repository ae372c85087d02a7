"""``python -m kfqn_ref`` is ``kfqn``."""

from kfqn_ref.cli import app

app(prog_name="kfqn")
