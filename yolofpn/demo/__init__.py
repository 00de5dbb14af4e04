"""The local web page: a webcam, uploads and this computer's cameras, with boxes, in any browser."""
