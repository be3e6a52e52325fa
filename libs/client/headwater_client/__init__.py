"""An RTMP client for Python: NetConnection, NetStream, SharedObject."""
