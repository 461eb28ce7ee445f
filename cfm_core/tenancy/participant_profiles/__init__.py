"""Participant profiles with their virtual participant agents: deployed, disposed, and brought up to date by responses."""
