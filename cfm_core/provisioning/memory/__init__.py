"""The Provision Manager in memory: an executable model of what its SQL does, for one process, until it ends."""
