"""What was worked out from image files, kept on disk: pixels, hashes, measurements, pairs of one film."""
