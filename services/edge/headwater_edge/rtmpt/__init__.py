"""RTMPT: RTMP in HTTP requests. A session is stored with each answer, so that any edge may receive the next request."""
