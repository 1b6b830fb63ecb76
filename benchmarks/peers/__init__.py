"""One program for each system that `benchmarks.beside` races, run by the interpreter of that system's environment."""
