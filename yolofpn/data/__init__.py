"""Pictures and annotations: reading, resizing, augmenting, batching."""
