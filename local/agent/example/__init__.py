"""A complete agent with its test: what ``cfm agent new`` writes, under another name."""
