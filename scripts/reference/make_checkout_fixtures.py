#!/usr/bin/env python3
"""Make the parity fixtures whose reference is a research repository, not a package.

Usage: make_checkout_fixtures.py [--self-forcing DIR] [--taehv DIR] [--out DIR]

  git clone https://github.com/guandeh17/Self-Forcing       -> tests/fixtures/causal
  git clone https://github.com/madebyollin/taehv            -> tests/fixtures/taehv

Each DIR is a checkout at the commit below. Needs requirements.txt and
checkout-requirements.txt. The same versions give the same files to the byte on
the same kind of CPU. No code of those repositories is in this one: it is only
run.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
torch.set_grad_enabled(False)

COMMITS = {
    "self_forcing": "33593df3e81fa3ec10239271dd2c100facac6de1",
    "taehv": "1f14a568f24bf8811e0a0ac601613e04fc1581e8",
}


def check_commit(directory, name):
    command = ["git", "-C", str(directory), "rev-parse", "HEAD"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if found != COMMITS[name]:
        sys.exit(f"{directory} is at {found}; the fixtures are made with {COMMITS[name]}: git checkout {COMMITS[name]}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--self-forcing", type=Path)
    parser.add_argument("--taehv", type=Path)
    default = Path(__file__).resolve().parents[2] / "tests" / "fixtures"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    if not (options.self_forcing or options.taehv):
        parser.error("give at least one checkout")
    if options.self_forcing:
        from causal_cases import write_causal

        check_commit(options.self_forcing, "self_forcing")
        write_causal(options.out, options.self_forcing, COMMITS["self_forcing"])
    if options.taehv:
        from taehv_cases import write_taehv

        check_commit(options.taehv, "taehv")
        write_taehv(options.out, options.taehv, COMMITS["taehv"])


if __name__ == "__main__":
    main()
