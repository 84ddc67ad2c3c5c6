"""Further decorators of definitions."""
