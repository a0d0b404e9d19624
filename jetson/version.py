"""The version of coopexport that this is: the device records it, and has no package that could be asked."""

VERSION = "0.2.0"
