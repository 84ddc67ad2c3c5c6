"""Bytes from stores into files: one object, ranges, mirrors, plain sockets."""
