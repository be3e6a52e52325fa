"""What outlives an origin: the journal, its commits, and what waits for them."""
