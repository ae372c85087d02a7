"""Say how complete the types of the public interface are, and fail below a share of them.

``python tests/complete_types.py 0.95`` runs ``pyright --verifytypes`` on the installed package.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


def main(least: float) -> int:
    """Return 0 if at least this share of the exported symbols has a known type, else 1."""
    bin_folder = Path(sys.executable).parent  # pyright looks for the first python on the path
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    command = ["pyright", "--verifytypes", "kfqn_ref", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["typeCompleteness"]
    share = found["completenessScore"]
    unknown = [s for s in found["symbols"] if s["isExported"] and not s["isTypeKnown"]]
    for symbol in unknown if share < least else []:
        reasons = [each["message"].splitlines()[0] for each in symbol["diagnostics"]]
        print(f"{symbol['name']}: {', '.join(reasons)}")
    print(f"{share:.1%} of the exported symbols have a known type; at least {least:.0%} must")
    return int(share < least)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
