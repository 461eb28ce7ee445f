"""Query indexes: paths below an entity's properties that an operator has declared as indexed."""
