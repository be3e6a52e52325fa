"""The Headwater message bus over ZeroMQ: envelopes, links, node runtime."""
