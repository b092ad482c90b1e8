"""A peer that can't be had: says so in the words that the driver expects."""

import json
import sys


def answer(peer, why):
    """Handles the command line of a peer that has nothing to install and nothing to run."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command == "run":
        print(json.dumps({"peer": peer, "unavailable": why}))
    elif command in ("--help", "-h"):
        print(f"Usage: {peer} install | run ...\n\n{peer} can't be had here: {why}.")
    elif command != "install":
        sys.exit(f"Usage: {peer} install | run ...")
