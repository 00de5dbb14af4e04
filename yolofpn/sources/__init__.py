"""Sources of frames: files, folders, URLs, cameras, streams."""
