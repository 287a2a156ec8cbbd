"""From the bytes of a picture to an 8-bit image. Imports no torch, so that a process for it starts fast."""
