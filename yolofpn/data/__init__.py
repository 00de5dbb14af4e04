"""Images and annotations: reading, resizing, augmenting, batching."""
