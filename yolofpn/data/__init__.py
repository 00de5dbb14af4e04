"""Data sets: image and label readers, augmentation, batches."""
