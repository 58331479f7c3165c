"""Speed, memory and exactness against what people use today, measured in one run and kept as tables.

    python -m benchmarks fleet | geometry | measures | store | book | cluster | gpu
                                  measure; prints a table, merges it into results/
    python -m benchmarks targets  each target beside what was measured

Nothing here is a test: a number belongs to a machine, and a speed is a ratio against a peer of the same run.
"""
