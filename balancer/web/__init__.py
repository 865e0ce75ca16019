"""The pages for people: the built bundle, and the shells that load it. Served by the balancer and the load tester."""
