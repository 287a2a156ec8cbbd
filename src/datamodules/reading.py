"""Reading images, for who prepares data: :mod:`cxrlab.reading.image` by the name of this room."""

from cxrlab.reading.image import ImageFacts, ReadImage, read_image, read_image_bytes

__all__ = ["ImageFacts", "ReadImage", "read_image", "read_image_bytes"]
