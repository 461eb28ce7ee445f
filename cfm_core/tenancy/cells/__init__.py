"""Cells: the zones that virtual participant agents are deployed to."""
