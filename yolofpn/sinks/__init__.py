"""What receives the detections of each image and writes them."""
