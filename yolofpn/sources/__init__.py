"""From what a user types to frames: files, folders, addresses, cameras, streams."""
