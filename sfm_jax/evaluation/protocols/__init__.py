"""Published benchmarks, one file each: predictions and truths by name in, an `outcome.Outcome` out."""
