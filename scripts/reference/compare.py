#!/usr/bin/env python3
"""Compare two files of raw RGB24 frames: largest and mean difference, in [0,1].

Usage: compare.py A.rgb B.rgb [--limit MAX]

Exits with 1 where the largest difference is above the limit or the lengths
differ. One step of the 8 bits is 0.0039.
"""

import argparse
import sys

import numpy as np


def differences(first, second):
    """(largest, mean) absolute difference of two files of equal length, in [0,1]."""
    a = np.fromfile(first, np.uint8).astype(np.int16)
    b = np.fromfile(second, np.uint8).astype(np.int16)
    if a.size != b.size:
        raise ValueError(f"{first} has {a.size} bytes, {second} has {b.size}")
    if a.size == 0:
        raise ValueError(f"{first} and {second} are empty")
    difference = np.abs(a - b) / 255.0
    return float(difference.max()), float(difference.mean())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--limit", type=float, default=1.0)
    options = parser.parse_args()
    try:
        largest, mean = differences(options.first, options.second)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    print(f"max {largest:.6f} mean {mean:.8f}")
    if largest > options.limit:
        sys.exit(1)


if __name__ == "__main__":
    main()
