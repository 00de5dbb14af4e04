"""A window on the screen that shows results."""
