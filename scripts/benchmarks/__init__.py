"""The sections of docs/benchmarks.md, one module each; scripts/bench runs them."""
