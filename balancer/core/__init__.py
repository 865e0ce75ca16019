"""Pure routing: endpoints, strategies, breaker, pool and leases.

Standard library only, synchronous; time (`now`, monotonic seconds) and chance (`rng`) are arguments.
"""
