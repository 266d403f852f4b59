"""Side-by-side benchmarks: ours and the reference in one run, interleaved, as ratios."""
