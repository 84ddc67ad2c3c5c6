"""A package's data: declaration, registry, lookup, batches, unpacking."""
