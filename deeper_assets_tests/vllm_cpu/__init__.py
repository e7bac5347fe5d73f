"""vLLM for tests and benchmarks: an environment of its own, models it takes, jobs and servers in it."""
