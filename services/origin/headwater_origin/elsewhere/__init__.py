"""SharedObjects of other groups: spread ones, and those of other scopes."""
