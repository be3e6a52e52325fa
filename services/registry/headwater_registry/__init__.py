"""The Headwater registry: nodes, leases, the group table."""
