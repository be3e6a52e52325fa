"""Live streams: publish and play, fan-out to edges, streams that are groups of their own."""
