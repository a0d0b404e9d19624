"""The store of engines that were built once: what is kept, under which key, and how room is made."""
