"""Dataspace profiles: the policies, protocols and credentials of a dataspace, and the cells that serve it."""
