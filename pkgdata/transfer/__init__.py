"""Bytes from stores into files: from the first good mirror, ranges, plain sockets."""
