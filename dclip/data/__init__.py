"""Images in.

Importing this registers the data sets that come with dclip; it imports nothing heavy.
"""

from dclip.data import cifar10, imagenet, photographs, sampled
from dclip.data.toonfaces import options as toonfaces_options

__all__ = ["cifar10", "imagenet", "photographs", "sampled", "toonfaces_options"]
