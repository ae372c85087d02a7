"""``python -m kfqn_ref`` is ``kfqn``, and says in one sentence which extra is missing."""

import sys

from kfqn_ref._extras import MissingExtra, needs


def main() -> None:
    """Run the command line; exit with 2 and one sentence where an extra is missing."""
    try:
        needs("cli", "the command kfqn")
        from kfqn_ref.cli import app

        app(prog_name="kfqn")
    except MissingExtra as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
