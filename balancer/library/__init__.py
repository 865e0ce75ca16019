"""The balancer without a server: routing, failover, accounting in a script. No Starlette, no database, no settings."""
