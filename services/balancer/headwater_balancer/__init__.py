"""The Headwater balancer: which origin gets which group."""
