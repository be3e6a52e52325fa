"""RTMP as sans-IO state machines: handshake, chunks, messages, SharedObjects, FLV."""
