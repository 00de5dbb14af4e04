"""Array and tensor operations that know nothing of detectors."""
