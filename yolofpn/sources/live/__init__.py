"""Sources without an end: cameras and network streams, newest frame first."""
